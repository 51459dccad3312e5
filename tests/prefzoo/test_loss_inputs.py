"""The inputs of a loss, and one line with the cure where the data does not fit it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from zoo_inputs import named

from prefzoo import losses
from prefzoo.data.schemas import describe, normalise
from prefzoo.data.tokenising import tokenise
from prefzoo.data.tokens import TokenAnswer, TokenExample, TokenPair
from prefzoo.errors import UserError
from prefzoo.training.loss_inputs import MismatchedRows, check_fit, contents_of, mismatched_rows, scores_of, unpack
from prefzoo.types import Answers, LogProbs

PAIRS = [TokenPair([1], [2, 3], [4], 0), TokenPair([5], [6], [7, 8], 1), TokenPair([9], [10], [11], 2)]
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "pairs", "batch", "says"),
    [
        ("dpo", [TokenAnswer([1], [2], True, 0)], 8, "x: dpo compares two answers .* use kto, bco"),
        ("odpo", PAIRS, 8, "x: odpo reads the columns score_chosen and score_rejected, and row 1 has none; name them"),
        ("kto", PAIRS, 1, "a batch of 1 does not have; set train.batch to 2 or more"),
        (
            "aot",
            PAIRS,
            1,
            "x: aot compares the rows of a step with each other, and a batch of 1 has nothing to compare",
        ),
        ("dpo + aot", PAIRS, 1, "x: aot compares the rows"),
        ("dpo with humanline and dr", PAIRS, 1, "x: dr compares the rows of a step with each other"),
    ],
)
def test_a_loss_that_the_data_does_not_fit_is_refused(
    name: str, pairs: list[TokenExample], batch: int, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        check_fit(named(name), contents_of(pairs), batch, "x")


def test_a_loss_that_the_data_fits_passes() -> None:
    for name in ("dpo", "kto", "aot", "tdpo1", "dpo + 0.2*sft", "aot + tdpo1"):
        check_fit(losses.get(name), contents_of(PAIRS), 2, "x")
    for name in ("alpha_dpo", "dpo with humanline"):  # which has a state, and which reads each row alone
        check_fit(named(name), contents_of(PAIRS), 1, "x")
    check_fit(losses.get("bco"), contents_of([TokenAnswer([1], [2], False, 0)]), 2, "x")


def test_mismatched_rows_have_the_next_rows_answers() -> None:
    result = mismatched_rows([2, 0], PAIRS)
    assert [(p.prompt, *p.answers) for p in result] == [([9], [2, 3], [4]), ([1], [10], [11])]


def test_mismatched_rows_of_many_steps_are_made_as_they_are_read() -> None:
    steps = [[2, 0], [1, 2, 0]]
    rows = MismatchedRows(steps, PAIRS)
    assert list(rows) == [row for step in steps for row in mismatched_rows(step, PAIRS)] and len(rows) == 5
    assert not any(isinstance(held, list) for held in vars(rows).values() if held is not PAIRS)


def test_single_answers_are_read(tiny_tokenizer: Any) -> None:
    rows = [{"prompt": "a river", "completion": "is long", "label": i % 2 == 0} for i in range(4)]
    assert describe(rows) == "single labelled answers, plain strings"
    pairs = tokenise(normalise(rows, "d"), tiny_tokenizer, 100, "drop").examples
    assert [p.label for p in pairs] == [True, False, True, False]
    assert all(p.completion[-1] == tiny_tokenizer.eos_token_id for p in pairs)


def test_log_probs_of_single_answers_come_with_their_labels() -> None:
    packed = LogProbs(*torch.tensor([[-1.0, -2.0], [0.0, 0.0], [3, 4], [0, 0]]))
    result = unpack(packed, [TokenAnswer([1], [2], label, 0) for label in (True, False)])
    assert isinstance(result, Answers) and result.desirable.tolist() == [True, False]
    assert (result.logps.tolist(), result.lengths.tolist()) == ([-1, -2], [3, 4])
    assert unpack(packed, PAIRS) is packed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": 2}, "d: row 2: label is 2; it must be true"),
        ({"label": None}, "d: row 2: label is None"),
        ({"completion": " "}, "d: row 2: completion is empty"),
        ({"completion": None}, "d: row 2: completion is missing"),
        ({"prompt": [3]}, "d: row 2: prompt is a list of something other than messages"),
    ],
)
def test_a_wrong_single_answer_is_named(change: dict[str, Any], says: str) -> None:
    good = {"prompt": "a", "completion": "b", "label": True}
    with pytest.raises(UserError, match=says):
        normalise([good, {**good, **change}], "d")


def test_scores_come_from_the_rows(tiny_tokenizer: Any) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 2, "score_rejected": 0.5}
    pairs = tokenise(normalise([row], "d"), tiny_tokenizer, 100, "drop").examples
    scored = scores_of(pairs, CPU)
    assert scored is not None and float(scored.gap) == 1.5
    assert scores_of([*pairs, *PAIRS], CPU) is None
