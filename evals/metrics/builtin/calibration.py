"""Calibration of a loss: does the probability that it gives to a preference match how often the preference is right?"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, register
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Estimate, Values

BINS = 10
HALF = 0.5
RESAMPLES = intervals.RESAMPLES // 20


def calibration_error(margins: Values, beta: float, bins: int = BINS) -> float:
    r"""Return the expected calibration error of $\sigma(\beta h)$ as the probability of the labelled preference.

    $$ ECE = \sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b| $$

    (Guo 2017, arXiv:1706.04599) over bins of equal width of the confidence max(p, 1 - p), from one half to one.

    Args:
        margins: (n,) log-ratio margins h in nats.
        beta: factor by which the loss multiplies margins.
        bins: number of bins.

    Returns:
        A number in [0, 1]; NaN without margins.
    """
    p = expit(beta * margins)
    confidence, right = np.maximum(p, 1 - p), intervals.correct(p - HALF)
    where = np.minimum(((confidence - HALF) / HALF * bins).astype(int), bins - 1)
    gap = np.bincount(where, right - confidence, minlength=bins)  # n_b * (acc_b - conf_b)
    return float(np.abs(gap).sum() / len(p)) if len(p) else np.nan


def calibration(margins: Values, beta: float, seed: int = 0) -> Estimate:
    """Return the calibration error with a bootstrap interval over pairs, since it has no value per pair.

    The interval is biased upward, since noise can only increase the error.

    Args:
        margins: (n,) log-ratio margins h in nats.
        beta: factor by which the loss multiplies margins.
        seed: seed of the bootstrap.

    Returns:
        The estimate; NaN and n = 0 without margins.
    """
    value, n = calibration_error(margins, beta), len(margins)
    if not n:
        return intervals.NOTHING
    rng = np.random.default_rng(seed)
    resampled = [calibration_error(margins[rng.integers(0, n, n)], beta) for _ in range(RESAMPLES)]
    return intervals.of_resamples(value, np.array(resampled), n)


def _estimate(measured: Measured, base: Measured | None) -> Estimate | None:
    if not measured.margins or base is None or measured.beta is None:
        return None
    return calibration(np.array(measured.margins), measured.beta)


CALIBRATION_ERROR = register(Metric(
    "calibration_error", "calibration error", "held-out pairs", higher_is_better=False, digits=3, needs_baseline=True,
    diagnostic=True, description="expected calibration error of sigmoid(beta h)", position=12, estimator=_estimate,
))  # fmt: skip
