"""What held-out pairs and generated answers say of a model beyond accuracy and margin.

Most give one value per pair, so that `stats.mean` and paired differences apply; all are in nats, shares or tokens.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from torch import Tensor

from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Estimate, Values
from prefzoo.types import LogProbs, VocabLogProbs

BINS = 10
HALF = 0.5


def _array(values: Tensor) -> Values:
    return values.detach().double().cpu().numpy()


def _right(margins: Values) -> Values:
    return np.asarray(HALF + HALF * np.sign(margins))


def length_normalised_accuracy(policy: LogProbs, reference: LogProbs | None = None) -> Values:
    r"""(B,) the same of means per token, $c/|c| - r/|r|$, so that a longer answer is no less likely by its length.

    Without a reference it is the policy's own ranking, as SimPO and ORPO train it.
    """
    margins = policy.per_token().margin
    return _right(_array(margins if reference is None else margins - reference.per_token().margin))


def calibration_error(margins: Values, beta: float, bins: int = BINS) -> float:
    r"""Expected calibration error of $\sigma(\beta h)$ as the probability that the labelled answer is the better one.

    $$ ECE = \sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b| $$

    (Guo 2017, arXiv:1706.04599) over equal bins of the confidence max(p, 1 - p), from one half to one.
    """
    p = expit(beta * margins)
    confidence, right = np.maximum(p, 1 - p), _right(p - HALF)
    where = np.minimum(((confidence - HALF) / HALF * bins).astype(int), bins - 1)
    gap = np.bincount(where, right - confidence, minlength=bins)  # n_b * (acc_b - conf_b)
    return float(np.abs(gap).sum() / len(p)) if len(p) else np.nan


def calibration(margins: Values, beta: float, seed: int = 0) -> Estimate:
    """The error has no value per pair, so pairs are resampled; the interval leans upward, as noise only adds to it."""
    value, n = calibration_error(margins, beta), len(margins)
    if not n:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0)
    rng = np.random.default_rng(seed)
    again = [calibration_error(margins[rng.integers(0, n, n)], beta) for _ in range(intervals.RESAMPLES // 20)]
    low, high = np.percentile(again, (2.5, 97.5))
    return Estimate(value, float(np.std(again, ddof=1)), float(low), float(high), n)


def displacement(policy: LogProbs, reference: LogProbs) -> Values:
    r"""(B,) $c - c_0$ per token: below 0 the chosen answer itself became less likely (likelihood displacement)."""
    return _array(policy.per_token().chosen - reference.per_token().chosen)


def entropy(policy: VocabLogProbs) -> Values:
    """(B,) mean entropy in nats of the next-token distribution along the chosen answer."""
    return _array(policy.chosen_entropy.sum(-1) / policy.chosen_len.clamp(min=1))


def length_ratio(ours: Values, theirs: Values, seed: int = 0) -> Estimate:
    """Tokens of all our answers over those of theirs, to the same prompts, which are resampled; NaN without theirs."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} answers: they must be to the same prompts")
    n = len(ours)
    if not theirs.sum() > 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, n)
    rows = np.random.default_rng(seed).integers(0, n, size=(intervals.RESAMPLES, n))
    totals = theirs[rows].sum(1)
    again = ours[rows].sum(1)[totals > 0] / totals[totals > 0]
    low, high = np.percentile(again, (2.5, 97.5))
    return Estimate(float(ours.sum() / theirs.sum()), float(np.std(again, ddof=1)), float(low), float(high), n)
