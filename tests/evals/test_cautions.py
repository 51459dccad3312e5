"""What a reader is told about a run before believing its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prefzoo.evals.boards.cautions import Setting, cautions
from prefzoo.evals.boards.judged_files import setting_of
from prefzoo.evals.boards.run_files import RunFiles, VariantFiles
from prefzoo.evals.metrics.measure import Measured
from prefzoo.runtime.run_folders import RunResult

WHOLE = Measured([], [], [3] * 4, [True] * 4, [0.0] * 4, ["x"] * 4, {})
CUT = replace(WHOLE, finished=[False] * 4)


@pytest.mark.parametrize(
    ("models", "setting", "told"),
    [
        ({"base": CUT, "dpo": CUT}, Setting(8), ["All answers were cut at 8 tokens (evals.max_new_tokens)."]),
        ({"base": WHOLE, "dpo": CUT}, Setting(8), ["4 of 8 answers were cut at 8 tokens (evals.max_new_tokens)."]),
        (
            {"base": WHOLE, "ipo": WHOLE, "dpo": CUT}, Setting(8),
            ["All answers of dpo were cut at 8 tokens (evals.max_new_tokens)."],
        ),
        ({"base": WHOLE}, Setting(8), []),
        ({}, Setting(8, {"dpo": 8, "ipo": 8}, 60), ["8 of 60 training pairs were seen by each variant."]),
        ({}, Setting(8, {"dpo": 8, "ipo": 60}, 60), ["8 of 60 training pairs were seen by dpo."]),
        (
            {}, Setting(8, {"dpo": 8, "ipo": 16}, 60),
            ["Not all of the 60 training pairs were seen: 8 by dpo and 16 by ipo."],
        ),
        ({}, Setting(8, {"dpo": 120}, 60), []),
        (
            {}, Setting(8, {"dpo": 60}, 60, flipped=11),
            ["11 training labels were flipped on purpose (data.flip_labels)."],
        ),
        (
            {}, Setting(8, orphans=["ipo", "kto"]),
            [
                "Not in the recipe, left over in the folder and not ranked: ipo and kto; add to the recipe what is to "
                "be ranked, or remove the folder."
            ],
        ),
        (
            {}, Setting(8, held_out=False, prompts=False),
            [
                "No held-out pairs (data.eval): accuracy and displacement were not measured.",
                "No prompts (evals.prompts): no answers were compared.",
            ],
        ),
    ],
)  # fmt: skip
def test_what_a_reader_must_know(models: dict[str, Measured], setting: Setting, told: list[str]) -> None:
    assert list(cautions(models, setting)) == told


def test_a_failing_judge_is_named_as_the_recipe_has_it() -> None:
    broken = replace(WHOLE, missing=4, why_missing="4 of 4", judge="function:my.py:better@1b6fffa742fe")
    assert cautions({"dpo": broken}, Setting(8)) == ("The judge my.py:better on dpo: 4 of 4.",)


@pytest.mark.parametrize(("rounds", "seen"), [({}, {"dpo": 8}), ({"rounds": {"count": 2}}, {})])
def test_rounds_see_pairs_of_their_own(rounds: dict[str, Any], seen: dict[str, int]) -> None:
    result = RunResult("dpo", "dpo", {}, {"batch": 4}, 0, "", {"step": 2}, {}, {})
    files = VariantFiles("dpo", Path(), result, None, pd.DataFrame(), [], [])
    recipe = {"data": {"train": "train.jsonl"}} | rounds
    run = RunFiles(Path(), recipe, {"dpo": files}, pd.DataFrame(), None, pd.DataFrame(), {"train": {"kept": 12}})
    assert setting_of(run).seen == seen
