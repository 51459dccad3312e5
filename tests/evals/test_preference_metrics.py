"""Metrics of pairs and answers, each worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from prefzoo import losses
from prefzoo.data.batches import collate
from prefzoo.data.tokens import TokenPair
from prefzoo.engine.logprobs import score
from prefzoo.evals.metrics.builtin.answers import length_ratio
from prefzoo.evals.metrics.builtin.calibration import CALIBRATION_ERROR, calibration, calibration_error
from prefzoo.evals.metrics.builtin.chosen_answers import displacement, entropy
from prefzoo.evals.metrics.builtin.preference import length_normalised_accuracy
from prefzoo.evals.metrics.measure import Measured
from prefzoo.training.step_metrics import beta_of
from prefzoo.types import LogProbs, VocabLogProbs


def pairs(chosen: list[float], rejected: list[float], lengths: tuple[int, int] = (1, 1)) -> LogProbs:
    n = len(chosen)
    return LogProbs(
        torch.tensor(chosen), torch.tensor(rejected), torch.full((n,), lengths[0]), torch.full((n,), lengths[1])
    )


ZERO = pairs([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])


def test_accuracy_by_means() -> None:
    policy = pairs([-10.0, -4.0, -2.0], [-6.0, -8.0, -2.0], (5, 2))
    # per token: -2 against -3, -0.8 against -4, -0.4 against -1
    assert length_normalised_accuracy(policy).tolist() == [1, 1, 1]
    reference = pairs([0.0, 0.0, 0.0], [0.0, -8.0, -2.0], (5, 2))
    # less the reference's 0 - 0, 0 - -4, 0 - -1: 1, -0.8, -0.4
    assert length_normalised_accuracy(policy, reference).tolist() == [1, 0, 0]


def test_calibration_error_by_hand() -> None:
    logit = math.log(0.85 / 0.15)  # sigma = 0.85
    margins = np.array([logit, logit, logit, -logit])
    # one bin: confidence 0.85 in all four, right in three
    assert calibration_error(margins, 1.0) == pytest.approx(abs(0.75 - 0.85))
    assert calibration_error(margins, 0.0) == 0  # one half, a tie, counted one half
    assert calibration_error(margins, 1e4) == pytest.approx(0.25)  # sure of all, right in three
    assert math.isnan(calibration_error(np.array([]), 1.0))


@pytest.mark.parametrize(
    ("loss", "beta"), [("dpo", 0.1), ("dpo + 0.2*sft", 0.1), ("sft + 0.5*cdpo", 0.1), ("ipo", None), ("sft", None)]
)
def test_a_loss_with_beta_has_a_calibration_error_also_as_a_term_of_a_sum(loss: str, beta: float | None) -> None:
    assert beta_of(losses.get(loss).Params()) == beta
    base, empty = Measured([], [], [], [], [], [], {}), Measured([1.0, -2.0], [], [], [], [], [], {})
    estimate = CALIBRATION_ERROR.estimate(replace(empty, beta=beta), base)
    if beta is None:
        assert estimate is None
    else:
        assert estimate is not None
        assert estimate.value == pytest.approx(calibration_error(np.array([1.0, -2.0]), beta))


def test_a_calibrated_model_has_next_to_no_error() -> None:
    rng = np.random.default_rng(0)
    h = rng.normal(0, 2, 20_000)
    labelled = np.where(rng.random(20_000) < 1 / (1 + np.exp(-h)), h, -h)  # the better one is the labelled one
    assert calibration_error(labelled, 1.0) < 0.02
    assert calibration_error(labelled, 3.0) > 0.1
    calibrated = calibration(labelled[:500], 3.0)
    assert calibrated.low < calibrated.value < calibrated.high and calibrated.stderr > 0 and calibrated.n == 500


def test_displacement() -> None:
    policy, reference = pairs([-6.0, -2.0, -4.0], [0.0] * 3, (2, 1)), pairs([-4.0, -4.0, -4.0], [0.0] * 3, (2, 1))
    assert displacement(policy, reference).tolist() == [-1, 1, 0]


@torch.no_grad()
def test_entropy_is_the_models(tiny_model: Any) -> None:
    pairs = [TokenPair([1, 5, 9], [7, 8, 3], [6, 3], 0), TokenPair([1, 4], [9, 3], [8, 3], 1)]
    scored = score(tiny_model, collate(pairs, "rows", pad=0), VocabLogProbs)
    assert isinstance(scored, VocabLogProbs)
    for row, pair in enumerate(pairs):
        logp = tiny_model(torch.tensor([pair.prompt + pair.chosen])).logits[0].log_softmax(-1)
        at = slice(len(pair.prompt) - 1, -1)
        by_hand = -(logp.exp() * logp).sum(-1)[at].mean()
        assert float(entropy(scored)[row]) == pytest.approx(float(by_hand), abs=1e-4)


def test_length_ratio() -> None:
    ratio = length_ratio(np.array([6.0, 3.0]), np.array([4.0, 2.0]))
    assert ratio.value == 1.5 and ratio.n == 2
    assert ratio.low == ratio.high == pytest.approx(1.5)  # 6/4 and 3/2: the same ratio
    assert math.isnan(length_ratio(np.zeros(2), np.zeros(2)).value)
    with pytest.raises(ValueError, match="2 and 1 answers: they must be to the same prompts"):
        length_ratio(np.ones(2), np.ones(1))
