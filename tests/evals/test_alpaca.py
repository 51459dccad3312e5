"""AlpacaEval through a Python judge: its win rate is ours, its files are its own, its side effects are gone."""

from __future__ import annotations

import json
import logging
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import sklearn

from prefzoo.errors import UserError
from prefzoo.evals.judges.alpaca import win_rate_by_alpaca
from prefzoo.evals.stats import intervals

REFERENCE = [{"instruction": f"task {i}", "output": "x" * 5, "generator": "base"} for i in range(8)]
# Lengths against the reference's 5: longer, longer, longer, shorter, equal but other text, identical, longer, shorter.
TEXTS = ["y" * 9, "y" * 8, "{output_1}", "y", "y" * 5, "x" * 5, "y" * 6, ""]
OUTPUTS = [{"instruction": f"task {i}", "output": text} for i, text in enumerate(TEXTS)]


def package_files() -> set[str]:
    spec = find_spec("alpaca_eval")
    assert spec is not None and spec.origin is not None
    return {str(p) for p in Path(spec.origin).parent.rglob("*") if "__pycache__" not in str(p)}


def longest(instruction: str, output_1: str, output_2: str) -> float:
    return 1.5 + 0.5 * np.sign(len(output_2) - len(output_1))


def test_win_rate_worked_by_hand_and_equal_to_ours(tmp_path: Path) -> None:
    row = win_rate_by_alpaca(OUTPUTS, REFERENCE, longest, "tall", tmp_path).loc["tall"]
    # 4 longer, 2 shorter, 2 ties: (4 + 2 * 0.5) / 8 = 62.5 %
    assert row.win_rate == 62.5
    assert row.n_total == 8
    ours = intervals.wins(np.array([float(len(t)) for t in TEXTS]), np.full(8, 5.0))
    assert 100 * ours.mean() == row.win_rate
    assert 100 * intervals.mean(ours).stderr == pytest.approx(row.standard_error)


def test_writes_the_files_of_alpaca_eval_and_nothing_beside_its_code(tmp_path: Path) -> None:
    before = package_files()
    win_rate_by_alpaca(OUTPUTS, REFERENCE, longest, "tall", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotations.json", "model_outputs.json"]
    outputs = json.loads((tmp_path / "model_outputs.json").read_text())
    assert [(o["instruction"], o["output"], o["generator"]) for o in outputs] == [
        (f"task {i}", text, "tall") for i, text in enumerate(TEXTS)
    ]
    notes = {a["instruction"]: a for a in json.loads((tmp_path / "annotations.json").read_text())}
    assert [notes[f"task {i}"]["preference"] for i in range(8)] == [2, 2, 2, 1, 1.5, 1.5, 2, 1]
    assert {a["generator_1"] for a in notes.values()} == {"base"}
    assert package_files() == before


def test_judge_is_not_asked_about_identical_outputs(tmp_path: Path) -> None:
    asked: list[str] = []

    def judge(instruction: str, output_1: str, output_2: str) -> float:
        asked.append(instruction)
        return 1.5

    win_rate_by_alpaca(OUTPUTS, REFERENCE, judge, "tall", tmp_path)
    assert sorted(asked) == sorted(f"task {i}" for i in range(8) if i != 5)


def test_global_state_is_put_back(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), dict(os.environ), sklearn.get_config(), root.manager.disable)
    win_rate_by_alpaca(OUTPUTS, REFERENCE, longest, "tall", tmp_path)
    assert (root.level, list(root.handlers), dict(os.environ), sklearn.get_config(), root.manager.disable) == before


@pytest.mark.parametrize("verdict", [0.0, 2.5, float("nan")])
def test_verdict_outside_the_scale_is_refused(tmp_path: Path, verdict: float) -> None:
    with pytest.raises(UserError) as caught:
        win_rate_by_alpaca(OUTPUTS, REFERENCE, lambda *_: verdict, "tall", tmp_path)
    assert len(caught.value.lines) == 7  # all but the identical pair, at once
    assert f"judge of tall: instruction 'task 0': preference {verdict} is outside [1, 2]" in str(caught.value)


def test_missing_and_doubled_instructions_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        win_rate_by_alpaca([*OUTPUTS[1:], OUTPUTS[1]], REFERENCE, longest, "tall", tmp_path)
    assert caught.value.lines == (
        "outputs: 8 rows, 8 in the reference: instruction 'task 1' occurs 2 times; keep one",
        "outputs: 8 rows, 8 in the reference: no answer to instruction 'task 0'; generate it first",
    )
    with pytest.raises(UserError, match="outputs: empty; there is nothing to judge"):
        win_rate_by_alpaca([], [], longest, "tall", tmp_path)
