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


def wins(scores: Values, base: Values) -> Values:
    """(n,) 1 where a variant's score is higher than the base's on the same prompt, 0 where lower, 0.5 for a tie."""
    if scores.shape != base.shape:
        raise ValueError(f"{scores.shape[0]} and {base.shape[0]} prompts: the scores are of different prompt sets")
    return 0.5 + 0.5 * np.sign(scores - base)


def mean(values: Values, seed: int = 0) -> Estimate:
    """Mean with a percentile bootstrap over prompts; Wilson's interval where every value is the same 0 or 1."""
    n = len(values)
    value = float(values.mean())
    if np.ptp(values) == 0:
        low, high = proportion_confint(value * n, n, method="wilson") if value in (0.0, 1.0) else (value, value)
        return Estimate(value, 0.0, float(low), float(high), n)
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    )
    low, high = found.confidence_interval
    return Estimate(value, float(values.std(ddof=1) / np.sqrt(n)), float(low), float(high), n)


def proportion(successes: int, n: int) -> Estimate:
    """A share with Wilson's interval."""
    value = successes / n
    low, high = proportion_confint(successes, n, method="wilson")
    return Estimate(value, float(np.sqrt(value * (1 - value) / n)), float(low), float(high), n)


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
