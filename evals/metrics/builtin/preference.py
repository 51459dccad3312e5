"""Metrics of held-out pairs: accuracy and margin of the chosen over the rejected answer, under one frozen reference."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, register
from prefzoo.evals.stats.intervals import Values, correct
from prefzoo.types import LogProbs

HALF = 0.5


def margins(measured: Measured, base: Measured | None) -> Values | None:
    """Return the (n,) log-ratio margins h in nats."""
    return np.array(measured.margins, dtype=float) if measured.margins and base is not None else None


def accuracies(measured: Measured, base: Measured | None) -> Values | None:
    """Return (n,) 1 where the margin is positive, 0 where it is negative, 0.5 where it is zero."""
    h = margins(measured, base)
    return None if h is None else correct(h)


def length_normalised_accuracy(policy: LogProbs, reference: LogProbs | None = None) -> Tensor:
    r"""Return (B,) 1, 0.5 or 0 by the sign of $c/|c| - r/|r|$; dividing by length removes the penalty on long answers.

    Without a reference, this is the policy's own ranking, as SimPO and ORPO train it. With a reference, log-probs are
    replaced by log-ratios.
    """
    margins = policy.per_token().margin
    return HALF + HALF * torch.sign(margins if reference is None else margins - reference.per_token().margin)


PREFERENCE_ACCURACY = register(Metric(
    "preference_accuracy", "preference accuracy", "held-out pairs", higher_is_better=True, percent=True,
    needs_baseline=True, description="share of held-out pairs whose margin is positive", base_value=HALF, position=7,
    phrase="an accuracy on held-out pairs", rows=accuracies,
))  # fmt: skip
PREFERENCE_MARGIN = register(Metric(
    "preference_margin", "preference margin", "held-out pairs", "nats", higher_is_better=True, needs_baseline=True,
    diagnostic=True, description="mean log-ratio margin, in nats", base_value=0.0, position=10, rows=margins,
))  # fmt: skip
LENGTH_NORMALISED_ACCURACY = register(Metric(
    "length_normalised_accuracy", "accuracy per token", "held-out pairs", higher_is_better=True, percent=True,
    diagnostic=True, description="share of held-out pairs whose chosen answer has the higher log-prob per token",
    position=11, from_logprobs=lambda policy, _: length_normalised_accuracy(policy),
))  # fmt: skip
