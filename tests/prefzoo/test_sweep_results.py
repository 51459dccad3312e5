"""The committed sweep, in order and on Ray: the same steps, margins, choices and board."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parents[2] / "results"
TRIALS = 24  # four losses, three settings, two seeds


def test_in_order_and_on_ray_the_numbers_are_the_same() -> None:
    order, ray = RESULTS / "sweep", RESULTS / "sweep-ray"
    record = json.loads((order / "sweep.json").read_text())
    assert record == json.loads((ray / "sweep.json").read_text()) and len(record["trials"]) == TRIALS
    for trial in record["trials"]:
        name = trial["name"]
        assert (order / name / "metrics.jsonl").read_text() == (ray / name / "metrics.jsonl").read_text()
        margins = [json.loads((f / name / "validation.json").read_text())["margins"] for f in (order, ray)]
        assert margins[0] == margins[1]
    first, second = (pd.read_csv(folder / "leaderboard.csv") for folder in (order, ray))
    timed = first.metric == "train_seconds"
    pd.testing.assert_frame_equal(first[~timed], second[~timed], check_exact=True)
