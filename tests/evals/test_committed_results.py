"""What is committed under results/: its page follows from its files, and no test depends on its numbers."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from perturb_results import perturb, run

from prefzoo.evals.boards.history import gather, page

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
READS_RESULTS = re.compile(r"(parents\[\d\]|ROOT|HERE|__file__).*\bresults\b")


@pytest.mark.slow
def test_the_committed_page_is_not_stale() -> None:
    """If this fails, a run in results/ changed: `prefzoo leaderboard results --write`."""
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert page(gather(RESULTS), text) == text


def test_every_file_with_measured_numbers_is_perturbed(tmp_path: Path) -> None:
    for name in ("sweep", "quickstart"):
        shutil.copytree(RESULTS / name, tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    perturb(tmp_path, random.Random(0))
    same = {path.name for path, content in before.items() if path.read_bytes() == content}
    assert same <= {"recipe.resolved.yaml", "model_outputs.json"}  # settings, and text without a number


@pytest.mark.slow
def test_the_example_of_judging_runs(tmp_path: Path) -> None:
    words = [sys.executable, "examples/judging.py", str(RESULTS / "quickstart"), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    for name, metric in (("alpaca_eval", "win_rate_alpaca_eval"), ("arena", "win_rate_arena")):
        metrics = set(pd.read_csv(tmp_path / name / "leaderboard.csv").metric)
        assert {"win_rate", "win_rate_style", metric} <= metrics
        assert json.loads((tmp_path / name / "verdict.json").read_text())["equivalence"]["points"] == 3
    rows = json.loads((tmp_path / "alpaca_eval" / "dpo" / "annotations.json").read_text())
    assert {len(row["preference_by_order"]) for row in rows} <= {0, 2} and "preference_drawn" in rows[0]


@pytest.mark.slow
def test_no_test_depends_on_committed_numbers(tmp_path: Path) -> None:
    """Runs the tests that read results/ of the checkout; `python tests/perturb_results.py` runs all of them."""
    files = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if READS_RESULTS.search(path.read_text(encoding="utf-8"))
    ]
    assert str(Path(__file__).relative_to(ROOT)) in files
    done = run(tmp_path, 0, ["-m", "not slow", *files])
    assert done.returncode == 0, done.stdout[-4000:]
