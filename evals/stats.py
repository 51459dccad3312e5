"""Uncertainty, by scipy and statsmodels: the prompt is the unit, differences are paired and corrected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

Values = NDArray[np.float64]
RESAMPLES = 4000


@dataclass(frozen=True)
class Estimate:
    """A mean over n prompts or pairs with its standard error and 95% interval."""

    value: float
    stderr: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean of a - b over the same prompts, its 95% interval, and the two-sided p of "no difference"."""

    value: float
    low: float
    high: float
    p: float


def wins(scores: Values, base: Values) -> Values:
    """(n,) 1 where a variant's score is higher than the base's on the same prompt, 0 where lower, 0.5 for a tie."""
    if scores.shape != base.shape:
        raise ValueError(f"{scores.shape[0]} and {base.shape[0]} prompts: the scores are of different prompt sets")
    return 0.5 + 0.5 * np.sign(scores - base)


def win_rate(scores: Values, base: Values, seed: int = 0) -> Estimate:
    """Share of prompts won against the base, ties half; Wilson's interval where every prompt ended alike."""
    return share_won(wins(scores, base), seed)


def share_won(won: Values, seed: int = 0) -> Estimate:
    """Mean of wins from 0 to 1; Wilson's interval where every prompt ended alike. What is not finite is left out."""
    won = won[np.isfinite(won)]
    if len(won) == 0 or np.ptp(won) > 0:
        return mean(won, seed)
    return Estimate(float(won[0]), 0.0, *_wilson(float(won.sum()), len(won)), len(won))


def mean(values: Values, seed: int = 0) -> Estimate:
    """Mean with a percentile bootstrap over prompts; Wilson's interval where every value is the same 0 or 1.

    What is not finite is left out, and so out of n; with nothing left, all numbers are NaN and n is 0.
    """
    values = values[np.isfinite(values)]
    n = len(values)
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0)
    value = float(values.mean())
    if np.ptp(values) == 0:
        low, high = _wilson(value * n, n) if value in (0.0, 1.0) else (value, value)
        return Estimate(value, 0.0, low, high, n)
    low, high = _bootstrap(values, seed)
    return Estimate(value, float(values.std(ddof=1) / np.sqrt(n)), low, high, n)


def _bootstrap(values: Values, seed: int) -> tuple[float, float]:
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired_difference(a: Values, b: Values, seed: int = 0) -> Difference:
    """Mean of a - b with its percentile bootstrap over prompts, and p by sign flips.

    Prompts where either is not finite are left out; with nothing left, the difference is NaN and p is 1.
    """
    difference = a - b
    kept = np.isfinite(difference)
    found = mean(difference[kept], seed)
    alike = found.stderr == 0  # the same on every prompt: nothing to resample, and no share for Wilson's interval
    low, high = (found.value, found.value) if alike else (found.low, found.high)
    return Difference(found.value, low, high, paired_p(a[kept], b[kept], seed))


def _wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's interval; at the ends exactly 0 and 1, which the closed form misses by a rounding error."""
    low, high = proportion_confint(successes, n, method="wilson")
    return (0.0 if successes == 0 else float(low)), (1.0 if successes == n else float(high))


def proportion(successes: int, n: int) -> Estimate:
    """A share with Wilson's interval."""
    value = successes / n
    low, high = _wilson(successes, n)
    return Estimate(value, float(np.sqrt(value * (1 - value) / n)), low, high, n)


def paired_p(a: Values, b: Values, seed: int = 0) -> float:
    """Two-sided p of "no difference" between two variants on the same prompts, by sign flips."""
    difference = a - b
    if not difference.any():
        return 1.0
    found = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, rng=np.random.default_rng(seed)
    )
    return float(found.pvalue)


def holm(pvalues: list[float]) -> list[float]:
    """p-values corrected for the number of comparisons."""
    return [float(p) for p in multipletests(pvalues, method="holm")[1]] if pvalues else []
