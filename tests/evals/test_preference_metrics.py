"""Metrics of pairs and answers, each worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from evals import preference_metrics as metrics
from evals.judges.protocol import Answer
from prefzoo.data.batches import collate
from prefzoo.data.tokens import TokenPair
from prefzoo.logprobs import score
from prefzoo.types import LogProbs, VocabLogProbs


def pairs(chosen: list[float], rejected: list[float], lengths: tuple[int, int] = (1, 1)) -> LogProbs:
    n = len(chosen)
    return LogProbs(
        torch.tensor(chosen), torch.tensor(rejected), torch.full((n,), lengths[0]), torch.full((n,), lengths[1])
    )


ZERO = pairs([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])


def test_accuracy_by_sums_and_by_means() -> None:
    policy = pairs([-10.0, -4.0, -2.0], [-6.0, -8.0, -2.0], (5, 2))
    assert metrics.accuracy(policy, ZERO).tolist() == [0, 1, 0.5]
    # per token: -2 against -3, -0.8 against -4, -0.4 against -1
    assert metrics.length_normalised_accuracy(policy).tolist() == [1, 1, 1]
    reference = pairs([0.0, 0.0, 0.0], [0.0, -8.0, -2.0], (5, 2))
    # less the reference's 0 - 0, 0 - -4, 0 - -1: 1, -0.8, -0.4
    assert metrics.length_normalised_accuracy(policy, reference).tolist() == [1, 0, 0]


def test_calibration_error_by_hand() -> None:
    logit = math.log(0.85 / 0.15)  # sigma = 0.85
    policy = pairs([logit, logit, logit, -logit], [0.0] * 4)
    # one bin: confidence 0.85 in all four, right in three
    reference = pairs([0.0] * 4, [0.0] * 4)
    assert metrics.calibration_error(policy, reference, 1.0) == pytest.approx(abs(0.75 - 0.85))
    assert metrics.calibration_error(policy, reference, 0.0) == 0  # one half, a tie, counted one half
    assert metrics.calibration_error(policy, reference, 1e4) == pytest.approx(0.25)  # sure of all, right in three
    assert math.isnan(metrics.calibration_error(pairs([], []), pairs([], []), 1.0))


def test_a_calibrated_model_has_next_to_no_error() -> None:
    rng = np.random.default_rng(0)
    h = rng.normal(0, 2, 20_000)
    labelled = np.where(rng.random(20_000) < 1 / (1 + np.exp(-h)), h, -h)  # the better one is the labelled one
    policy, reference = pairs(labelled.tolist(), [0.0] * 20_000), pairs([0.0] * 20_000, [0.0] * 20_000)
    assert metrics.calibration_error(policy, reference, 1.0) < 0.02
    assert metrics.calibration_error(policy, reference, 3.0) > 0.1


def test_displacement() -> None:
    policy, reference = pairs([-6.0, -2.0, -4.0], [0.0] * 3, (2, 1)), pairs([-4.0, -4.0, -4.0], [0.0] * 3, (2, 1))
    assert metrics.displacement(policy, reference).tolist() == [-1, 1, 0]
    assert metrics.displaced(policy, reference).tolist() == [1, 0, 0]


@torch.no_grad()
def test_entropy_and_ending_are_the_models(tiny_model: Any) -> None:
    made = [TokenPair([1, 5, 9], [7, 8, 3], [6, 3], 0), TokenPair([1, 4], [9, 3], [8, 3], 1)]
    found = score(tiny_model, collate(made, "rows", pad=0), VocabLogProbs)
    assert isinstance(found, VocabLogProbs)
    for row, pair in enumerate(made):
        logp = tiny_model(torch.tensor([pair.prompt + pair.chosen])).logits[0].log_softmax(-1)
        at = slice(len(pair.prompt) - 1, -1)
        by_hand = -(logp.exp() * logp).sum(-1)[at].mean()
        assert metrics.entropy(found)[row] == pytest.approx(float(by_hand), abs=1e-4)
        assert metrics.ending_logprob(found)[row] == pytest.approx(float(logp[-2, 3]), abs=1e-4)
    every = metrics.on_pairs(found, found, 0.1)
    assert every["entropy"].n == 2 and every["chosen_displaced"].value == 0
    assert every["preference_accuracy"].value == 0.5 and every["calibration_error"].value == 0


def answers(*rows: tuple[str, bool, int]) -> list[Answer]:
    return [Answer(*row) for row in rows]


def test_answers() -> None:
    ours = answers(("a b c a b c", True, 6), ("one", False, 3))
    base = answers(("x", True, 4), ("y", True, 2))
    assert metrics.length_ratio(ours, base) == 1.5
    assert metrics.repetitions(ours).tolist() == [0.25, 0]  # abc bca cab abc: one of four was there before
    assert metrics.eos(ours).tolist() == [1, 0]
    found = metrics.on_answers(ours, base)
    assert found["eos_rate"].value == 0.5 and found["length_ratio"].value == 1.5
    assert found["length_ratio"].low >= 1.5 - 1e-9 and found["length_ratio"].n == 2  # 6/4 and 3/2: the same ratio
    assert math.isnan(metrics.length_ratio(ours, answers(("", True, 0), ("", True, 0))))
    with pytest.raises(ValueError, match="2 and 1 answers: they must be to the same prompts"):
        metrics.length_ratio(ours, base[:1])


def test_all_on_pairs_have_intervals() -> None:
    rng = np.random.default_rng(1)
    policy = pairs(rng.normal(0.3, 1, 200).tolist(), rng.normal(0, 1, 200).tolist())
    reference = pairs([0.0] * 200, [0.0] * 200)
    found = metrics.on_pairs(policy, reference, 1.0)
    assert set(found) == {
        "preference_accuracy", "length_normalised_accuracy", "chosen_displacement", "chosen_displaced",
        "calibration_error",
    }  # fmt: skip
    assert all(e.low < e.value < e.high and e.stderr > 0 and e.n == 200 for e in found.values())
