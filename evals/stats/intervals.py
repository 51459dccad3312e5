"""Confidence intervals and tests over prompts, by scipy and statsmodels: means, paired differences, and Holm's p."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
RESAMPLES = 4000
FINEST = 0.02  # the smallest p that a board must be able to show after correction for all its comparisons
RARE = 0.005  # p at or below this is estimated again, from more sign flips
AT_ONCE = 4_000_000  # most numbers in memory while resampling a board


@dataclass(frozen=True)
class Estimate:
    """A mean over n prompts or pairs, with its standard error and 95% interval."""

    value: float
    stderr: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """The mean of a - b over the same prompts, with its 95% interval and the two-sided p of "no difference"."""

    value: float
    low: float
    high: float
    p: float


NOTHING = Estimate(np.nan, np.nan, np.nan, np.nan, 0)


def correct(margins: Values) -> Values:
    """Return (n,) 1 where a margin is positive, 0 where it is negative, 0.5 where it is zero."""
    return np.asarray(0.5 + 0.5 * np.sign(margins))


def of_resamples(value: float, resampled: Values, n: int) -> Estimate:
    """Make an estimate from the values of a statistic on resampled rows.

    Args:
        value: the statistic of all rows.
        resampled: (r,) values of the statistic on the resamples.
        n: the number of rows.

    Returns:
        The value, with the standard deviation and the 95% percentile interval of the resamples.
    """
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Estimate(value, float(np.std(resampled, ddof=1)), float(low), float(high), n)


def wins(scores: Values, base: Values) -> Values:
    """Return (n,) 1 if a variant's score is higher than the base's on the same prompt, 0 if lower, 0.5 for a tie."""
    if scores.shape != base.shape:
        raise ValueError(f"{scores.shape[0]} and {base.shape[0]} prompts: the scores are of different prompt sets")
    return correct(scores - base)


def share_won(won: Values, seed: int = 0) -> Estimate:
    """Estimate the mean of all finite wins in [0, 1], with Wilson's interval if they are equal."""
    won = won[np.isfinite(won)]
    if len(won) == 0 or np.ptp(won) > 0:
        return mean(won, seed)
    return Estimate(float(won[0]), 0.0, *_wilson(float(won.sum()), len(won)), len(won))


def mean(values: Values, seed: int = 0) -> Estimate:
    """Estimate a mean.

    The interval is that of a percentile bootstrap over prompts. If all values are 0, or all are 1, it is Wilson's; if
    all are another number, it has no width.

    Args:
        values: (n,) values; those that are not finite are left out of the mean and of `n`.
        seed: seed of the bootstrap.

    Returns:
        The mean. Without finite values, all its numbers are NaN and `n` is 0.
    """
    values = values[np.isfinite(values)]
    n = len(values)
    if n == 0:
        return NOTHING
    value = float(values.mean())
    if np.ptp(values) == 0:
        low, high = _wilson(value * n, n) if value in (0.0, 1.0) else (value, value)
        return Estimate(value, 0.0, low, high, n)
    low, high = _bootstrap(values, seed)
    return Estimate(value, float(values.std(ddof=1) / np.sqrt(n)), low, high, n)


def _bootstrap(values: Values, seed: int) -> tuple[float, float]:
    from scipy import stats

    resampled = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    )
    return float(resampled.confidence_interval.low), float(resampled.confidence_interval.high)


def paired_difference(a: Values, b: Values, seed: int = 0) -> Difference:
    """Estimate the mean of a - b, with a percentile bootstrap over prompts for the interval and sign flips for p.

    Args:
        a: (n,) values of one variant.
        b: (n,) values of the other variant on the same prompts. Prompts where either is not finite are left out.
        seed: seed of bootstrap and sign flips.

    Returns:
        The difference; NaN, with a p of 1, if no prompt is left.
    """
    return paired_differences({"a": a, "b": b}, seed)["a", "b"]


def paired_differences(
    values: Mapping[str, Values], seed: int = 0, only: str | None = None
) -> dict[tuple[str, str], Difference]:
    """Estimate the paired difference of every two variants.

    All pairs of variants with the same prompts share one set of resamples and one of sign flips. A mean of differences
    is a difference of means over the same prompts, so a board of n variants needs n resamplings and not n^2 / 2.

    Args:
        values: (n,) values of each variant, by name.
        seed: seed of bootstrap and sign flips.
        only: a name, to compare only pairs with this variant; None for all pairs.

    Returns:
        The difference of each pair, first minus second. The names in a pair are in alphabetical order.

    Raises:
        ValueError: the variants have different numbers of prompts.
    """
    names = sorted(values)
    if len({values[name].shape for name in names}) > 1:
        raise ValueError("the scores are of different prompt sets")
    table = np.array([values[name] for name in names])
    kept = np.isfinite(table)
    wanted = [(i, j) for i, j in combinations(range(len(names)), 2) if only in (None, names[i], names[j])]
    alike: dict[bytes, list[tuple[int, int]]] = {}
    for i, j in wanted:
        alike.setdefault((kept[i] & kept[j]).tobytes(), []).append((i, j))
    gaps: dict[tuple[int, int], Difference] = {}
    for pairs in alike.values():
        i, j = pairs[0]
        rows = sorted({row for pair in pairs for row in pair})
        place = {row: at for at, row in enumerate(rows)}
        inside = [(place[i], place[j]) for i, j in pairs]
        flips = round(2 * len(wanted) / FINEST)  # the smallest p is 2 / flips
        several = _sharpened(table[rows][:, kept[i] & kept[j]], inside, seed, flips)
        gaps |= dict(zip(pairs, several, strict=True))
    return {(names[i], names[j]): gaps[i, j] for i, j in wanted}


def _sharpened(table: Values, pairs: list[tuple[int, int]], seed: int, flips: int) -> list[Difference]:
    """Return `_differences`; with many comparisons, estimate each small p again from more sign flips."""
    differences = _differences(table, pairs, seed)
    rare = [k for k, d in enumerate(differences) if d.p <= RARE]
    if flips <= RESAMPLES or 2 ** table.shape[1] <= RESAMPLES or not rare:
        return differences
    gaps = np.array([table[i] - table[j] for i, j in (pairs[k] for k in rare)])
    reached = np.abs(gaps.sum(1)) * (1 - 1e-12)
    counts, rng, step = np.zeros(len(rare)), np.random.default_rng(seed + 1), max(1, AT_ONCE // max(gaps.shape))
    for start in range(0, flips, step):
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(min(step, flips - start), gaps.shape[1]), dtype=np.int8)
        counts += (np.abs(signs @ gaps.T) >= reached).sum(0)  # the tails are symmetric: each pattern has a mirror image
    for k, count in zip(rare, counts, strict=True):
        differences[k] = replace(differences[k], p=float((count + 2) / (flips + 2)))
    return differences


def _differences(table: Values, pairs: list[tuple[int, int]], seed: int) -> list[Difference]:
    """Return the differences between pairs of rows of a (variants, prompts) table of finite numbers."""
    n = table.shape[1]
    if n == 0:
        return [Difference(np.nan, np.nan, np.nan, 1.0)] * len(pairs)
    if n == 1:  # one prompt has no spread, and both sign patterns are equally extreme
        return [Difference(*(float(table[i, 0] - table[j, 0]),) * 3, 1.0) for i, j in pairs]
    means, flipped = _resampled_means(table, seed), _flipped_sums(table, seed)
    exact = 2**n <= RESAMPLES
    rounding = 1e-12 * float(np.abs(table).sum(1).max())
    out = []
    for i, j in pairs:
        difference = table[i] - table[j]
        value = float(difference.mean())
        p = _two_sided(flipped[i] - flipped[j], float(difference.sum()), rounding, exact=exact)
        if np.ptp(difference) == 0:  # the same on every prompt: nothing to resample
            out.append(Difference(value, value, value, p))
        else:
            low, high = np.percentile(means[i] - means[j], (2.5, 97.5))
            out.append(Difference(value, float(low), float(high), p))
    return out


def _resampled_means(table: Values, seed: int) -> Values:
    """Return (variants, RESAMPLES) means over prompts drawn with replacement, with the same draws for all variants."""

    def statistic(picked: NDArray[np.int64], axis: int) -> Values:
        means: Values = table[:, picked].mean(axis)
        return means

    from scipy import stats

    resampled = stats.bootstrap(
        (np.arange(table.shape[1]),), statistic, vectorized=True, n_resamples=RESAMPLES, method="percentile",
        batch=max(1, AT_ONCE // table.size), rng=np.random.default_rng(seed),
    )  # fmt: skip
    means: Values = resampled.bootstrap_distribution
    return means


def _flipped_sums(table: Values, seed: int) -> Values:
    """Return (variants, flips) sums over prompts with random signs, or with every pattern of signs if these are few.

    All variants have the same signs.
    """

    def statistic(signs: Values, axis: int) -> Values:
        return signs @ table.T

    from scipy import stats

    flipped = stats.permutation_test(
        (np.ones(table.shape[1]),), statistic, vectorized=True, permutation_type="samples", n_resamples=RESAMPLES,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    sums: Values = flipped.null_distribution.T
    return sums


def _two_sided(null: Values, observed: float, rounding: float, *, exact: bool) -> float:
    """Return twice the smaller tail. Unless `null` is exact, the observed value counts as one more draw."""
    more = 0 if exact else 1
    tails = (np.count_nonzero(null <= observed + rounding), np.count_nonzero(null >= observed - rounding))
    return min(1.0, 2 * (min(tails) + more) / (len(null) + more))


def _wilson(successes: float, n: int) -> tuple[float, float]:
    """Return Wilson's interval, with ends of exactly 0 and 1 where the closed form has rounding errors."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, method="wilson")
    return (0.0 if successes == 0 else float(low)), (1.0 if successes == n else float(high))


def proportion(successes: int, n: int) -> Estimate:
    """Estimate a share, with Wilson's interval."""
    value = successes / n
    low, high = _wilson(successes, n)
    return Estimate(value, float(np.sqrt(value * (1 - value) / n)), low, high, n)


def holm(pvalues: list[float]) -> list[float]:
    """Return p-values corrected for the number of comparisons (Holm 1979).

    The result is that of statsmodels' `multipletests`, which is slow since each call runs Python's garbage collector.
    """
    p, many = np.asarray(pvalues, dtype=float), len(pvalues)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(many)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * (many - np.arange(many))))
    return [float(v) for v in corrected]
