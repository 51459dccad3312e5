"""Win rates along a training, by any judge; what the judge does not say leaves the points as they were measured."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from prefzoo.evals.judges.coverage import Coverage
from prefzoo.evals.judges.function import judge_by
from prefzoo.evals.judges.protocol import Judge, PromptRow
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.frontier import FrontierPoint, table
from prefzoo.experiment.stages.win_rates import with_win_rates

ROWS = [PromptRow(str(i), f"say {i}") for i in range(3)]
POINTS = {
    "dpo": {
        0: FrontierPoint([0.0] * 3, [0.1], "preference_accuracy", ["aa", "aa", "aa"]),
        4: FrontierPoint([0.5] * 3, [0.2], "preference_accuracy", ["aaa", "a", "bb"]),
        8: FrontierPoint([0.9] * 3, [0.3], "preference_accuracy", ["aaaa", "aaaa", "aaaa"]),
    }
}


def judged(judge: Judge | None, rows: list[PromptRow] = ROWS) -> tuple[Any, Coverage, str]:
    text = StringIO()
    recipe = SimpleNamespace(evals=SimpleNamespace(kl=3))
    experiment: Any = SimpleNamespace(prompts=rows, recipe=recipe, console=Console(file=text, width=200))
    points, cover = with_win_rates(experiment, judge, POINTS)
    return points, cover, text.getvalue()


def test_samples_are_compared_with_the_base() -> None:
    points, cover, _ = judged(judge_by(lambda instruction, output: float(len(output)), "longer"))
    assert [points["dpo"][step].reward for step in (0, 4, 8)] == [[0.5] * 3, [1.0, 0.0, 0.5], [1.0] * 3]
    assert cover.asked == 6 and not cover.missing
    rows = table(points)
    assert set(rows.metric) == {"win_rate"} and rows.reward.tolist() == [0.5, 0.5, 1.0]


@pytest.mark.parametrize("judge", [None, Verifier()])
def test_the_verifier_has_scored_them_already(judge: Judge | None) -> None:
    assert judged(judge)[0] == POINTS


def test_a_judge_that_fails_leaves_what_was_measured() -> None:
    def broken(instruction: str, output: str) -> float:
        raise ValueError("no idea")

    points, cover, text = judged(judge_by(broken, "broken"))
    assert cover.withheld  # the run ends with a fault, and the same command asks again
    assert points == POINTS and "win rates along the training: 6 of 6 verdicts are missing" in " ".join(text.split())
