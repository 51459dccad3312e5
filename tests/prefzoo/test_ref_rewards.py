"""The column `ref_rewards`: what is read of it, what is refused, and who is given it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from zoo_inputs import random_world

from prefzoo import losses
from prefzoo.data.examples import Pair
from prefzoo.data.schemas import column_names, normalise
from prefzoo.data.tokenising import tokenise
from prefzoo.errors import UserError
from prefzoo.training.loss_inputs import check_fit, contents_of, scores_of
from prefzoo.types import RankedScores, Scores

ROW = {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 2.0, "score_rejected": 0.5}
CPU = torch.device("cpu")


def read(**more: Any) -> Pair:
    (pair,) = normalise([{**ROW, **more}], "d")
    assert isinstance(pair, Pair)
    return pair


def test_quantiles_are_the_shares_that_are_at_most_the_score() -> None:
    assert read(ref_rewards=[0.5, 1, 2, 3]).quantiles == (0.75, 0.25)
    assert read(ref_rewards=json.dumps([0, 9])).quantiles == (0.5, 0.5)
    assert read().quantiles is None and read(ref_rewards=None).quantiles is None
    assert "ref_rewards" in column_names()


def test_two_answers_with_scores_are_ranked_too() -> None:
    row = {"question": "a", "answer_0": "b", "answer_1": "c", "score_0": -1.0, "score_1": 1.0, "ref_rewards": [0, 2]}
    (pair,) = normalise([row], "d")
    assert isinstance(pair, Pair) and pair.scores == (1.0, -1.0) and pair.quantiles == (0.5, 0.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ref_rewards": 3}, "d: row 2: ref_rewards is 3; it must be a list of numbers, like"),
        ({"ref_rewards": []}, "ref_rewards is []; it must be a list of numbers"),
        ({"ref_rewards": [1, "x"]}, "ref_rewards is [1, 'x']; it must be a list of numbers"),
        ({"ref_rewards": [1, float("nan")]}, "it must be a list of numbers"),
        ({"ref_rewards": [1], "score_chosen": None}, "ref_rewards is set, but the row has no scores to rank among"),
    ],
)
def test_a_wrong_cell_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        normalise([ROW, {**ROW, **change}], "d")
    assert says in caught.value.lines[0]


def test_the_loss_is_given_them_or_the_data_is_refused(tiny_tokenizer: Any) -> None:
    ranked = tokenise([read(ref_rewards=[0.5, 1, 2, 3])], tiny_tokenizer, 100, "drop").examples
    plain = tokenise([read()], tiny_tokenizer, 100, "drop").examples
    scores = scores_of(ranked, CPU)
    assert isinstance(scores, RankedScores) and scores.chosen_quantile.tolist() == [0.75]
    assert type(scores_of(plain, CPU)) is Scores
    check_fit(losses.get("qrpo"), contents_of(ranked), 2, "x")
    check_fit(losses.get("odpo"), contents_of(plain), 2, "x")
    with pytest.raises(UserError, match="x: qrpo ranks scores among rewards .* row 1 has no list ref_rewards of them"):
        check_fit(losses.get("qrpo"), contents_of(plain), 2, "x")


def test_an_answer_at_its_target_costs_nothing() -> None:
    """The target is q - beta log Z = beta p, of both answers; the value is half of the two squares."""
    world, loss = random_world(0), losses.get("qrpo")
    params = loss.Params(beta=0.5)
    level = 0.5 * (torch.log(torch.tensor(0.5, dtype=torch.float64)) + 2)
    ratios = world.policy.chosen - world.reference.chosen, world.policy.rejected - world.reference.rejected
    ranks = world.scores.chosen_quantile, world.scores.rejected_quantile
    first, second = ((q - level - 0.5 * p).square() for q, p in zip(ranks, ratios, strict=True))
    torch.testing.assert_close(world.each(loss, params), (first + second) / 2)
    there = [(q - level) / 0.5 - p for q, p in zip(ranks, ratios, strict=True)]
    at_target = world.moved(there[0], there[1]).each(loss, params)
    torch.testing.assert_close(at_target, torch.zeros(6, dtype=torch.float64))
