"""Inference where rows are not independent: prompts as clusters, seeds as a second level; and what n can show at all.

Sources: Miller 2024 (arXiv:2411.00640) for clusters and pairing; Agresti & Min 2005 for paired proportions;
Satterthwaite 1946 for the degrees of freedom of a sum of variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from scipy.stats import t as student
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_test

from prefzoo.evals.stats.intervals import Difference, Estimate, Values

LEVEL, POWER = 0.95, 0.8
TWO = 2  # fewer clusters, prompts or seeds than this have no spread
STEPS = 10_000  # of an average over a quantity's quantiles
LARGE = 1e6  # degrees of freedom, from which on nothing changes
GRID = 2  # dimensions of seeds by prompts
HALF_CELL = 0.5  # Agresti & Min's pseudo-count for each cell of the 2 x 2 table


def clustered_mean(values: Values, clusters: Sequence[object] | NDArray[np.int64]) -> Estimate:
    """Estimate a mean over rows of which some belong together, like several answers to one prompt.

    Args:
        values: (n,) values; what is not finite is left out.
        clusters: (n,) what each row belongs to.

    Returns:
        The mean with the spread between the G clusters, by t intervals of G - 1 degrees; n is G.
    """
    kept = np.isfinite(values)
    values, cluster = values[kept], np.unique(np.asarray(clusters)[kept], return_inverse=True)[1]
    groups = int(cluster.max()) + 1 if len(cluster) else 0
    value = float(values.mean()) if groups else np.nan
    if groups < TWO:
        return Estimate(value, np.nan, np.nan, np.nan, groups)
    sums = np.bincount(cluster, values - value)  # residuals of a cluster go together
    stderr = float(np.sqrt(groups / (groups - 1) * (sums**2).sum()) / len(values))
    return _estimate(value, stderr, groups - 1, groups)


def clustered_difference(a: Values, b: Values, clusters: Sequence[object] | NDArray[np.int64]) -> Difference:
    """Estimate the mean of a - b over rows of which some belong together.

    Args:
        a: (n,) values of one variant.
        b: (n,) values of the other on the same rows.
        clusters: (n,) what each row belongs to.

    Returns:
        The difference, by the spread between clusters.
    """
    gap = clustered_mean(a - b, clusters)
    return Difference(gap.value, gap.low, gap.high, _p(gap.value, gap.stderr, gap.n - 1))


def mcnemar(a: Values, b: Values) -> Difference:
    """Estimate the difference of two shares of the same prompts, by McNemar's exact test.

    Args:
        a: (n,) 0 or 1 of one variant.
        b: (n,) 0 or 1 of the other.

    Returns:
        The difference with the interval of Agresti & Min.

    Raises:
        ValueError: there is a value that is neither 0 nor 1.
    """
    if not np.isin(np.concatenate([a, b]), (0, 1)).all():
        raise ValueError("McNemar's test is for values of 0 and 1; take paired_difference for others")
    n, only_a, only_b = len(a), int((a > b).sum()), int((b > a).sum())
    p = float(mcnemar_test([[0, only_a], [only_b, 0]], exact=True).pvalue)
    one, two, size = only_a + HALF_CELL, only_b + HALF_CELL, n + 4 * HALF_CELL
    center, stderr = (one - two) / size, np.sqrt(one + two - (one - two) ** 2 / size) / size
    reach = float(student.ppf((1 + LEVEL) / 2, np.inf) * stderr)
    return Difference((only_a - only_b) / n, max(-1.0, center - reach), min(1.0, center + reach), p)


def seeded_mean(values: Values) -> Estimate:
    """Estimate a mean over seeds and prompts, both drawn from more of their kind.

    $$ SE^2 = s^2_{seeds}/S + s^2_{prompts}/n - s^2_{rest}/(nS) $$

    of seed means, prompt means and what neither explains, which is in both of the others.

    Args:
        values: (seeds, prompts). With one seed the spread over seeds is unknown; the interval is over prompts alone.

    Returns:
        The mean; n is the number of prompts.
    """
    prompts, n = values.mean(0), values.shape[1]
    parts = [(float(prompts.var(ddof=1)) / n, n - 1), *_seed_part(values)]
    return _estimate(float(values.mean()), *_together(parts, _rest(values)), n)


def seeded_difference(a: Values, b: Values) -> Difference:
    """Estimate the mean of a - b over the same prompts; the seeds of the two are independent.

    Args:
        a: (seeds, prompts) of one variant.
        b: (seeds, prompts) of the other; the numbers of seeds may differ.

    Returns:
        The difference, its interval over seeds and prompts.
    """
    value, stderr, freedom = seeded_gap(a, b)
    estimate = _estimate(value, stderr, freedom, a.shape[1])
    return Difference(value, estimate.low, estimate.high, _p(value, stderr, freedom))


def seeded_gap(a: Values, b: Values) -> tuple[float, float, float]:
    """Return the mean of a - b over the same prompts, its standard error, and the degrees of freedom of that error.

    Args:
        a: (seeds, prompts) of one variant.
        b: (seeds, prompts) of the other; the numbers of seeds may differ.
    """
    if a.ndim != GRID or b.ndim != GRID or a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape} and {b.shape}: both must be (seeds, prompts) over the same prompts")
    gap, n = a.mean(0) - b.mean(0), a.shape[1]
    parts = [(float(gap.var(ddof=1)) / n, n - 1), *_seed_part(a), *_seed_part(b)]
    return float(gap.mean()), *_together(parts, _rest(a) + _rest(b))


def _seed_part(values: Values) -> list[tuple[float, int]]:
    seeds = len(values)
    return [(float(values.mean(1).var(ddof=1)) / seeds, seeds - 1)] if seeds >= TWO else []


def _rest(values: Values) -> float:
    """Return the variance of the mean that both the seeds' and the prompts' means contain."""
    seeds, n = values.shape
    if seeds < TWO:
        return 0.0
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((seeds - 1) * (n - 1)) / (seeds * n))


def _together(parts: Sequence[tuple[float, int]], twice: float) -> tuple[float, float]:
    """Return the standard error of a sum of variances, no less than each, and Satterthwaite's degrees of freedom."""
    total = max(sum(v for v, _ in parts) - twice, *(v for v, _ in parts), 0.0)
    weight = sum(v**2 / freedom for v, freedom in parts)
    return float(np.sqrt(total)), total**2 / weight if weight else float(parts[0][1])


def _estimate(value: float, stderr: float, freedom: float, n: int) -> Estimate:
    reach = float(student.ppf((1 + LEVEL) / 2, freedom)) * stderr
    return Estimate(value, stderr, value - reach, value + reach, n)


def _p(value: float, stderr: float, freedom: float) -> float:
    if not np.isfinite(stderr):
        return 1.0
    if stderr == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * student.sf(abs(value) / stderr, freedom))


def detectable(deviation: float, n: int, comparisons: int = 1) -> float:
    """Return the difference that a paired test finds four times in five.

    Args:
        deviation: standard deviation over prompts of the difference between two variants.
        n: how many prompts there are.
        comparisons: how many tests p is corrected for.

    Returns:
        The difference in the unit of `deviation`.
    """
    return detectable_by(deviation / float(np.sqrt(n)), n - 1, comparisons)


def detectable_by(stderr: float, freedom: float, comparisons: int = 1) -> float:
    """Return the difference that a t test finds four times in five.

    Args:
        stderr: standard error of the difference.
        freedom: degrees of freedom of that standard error.
        comparisons: how many tests p is corrected for.

    Returns:
        The difference in the unit of `stderr`.
    """
    return stderr * _reach(min(freedom, LARGE), comparisons)


@cache
def _reach(freedom: float, comparisons: int) -> float:
    """Return standard errors that are found four times in five."""
    alpha = (1 - LEVEL) / max(1, comparisons)  # what Holm asks of the smallest p
    critical = float(student.isf(alpha / 2, freedom))
    # The mean's z score is normal once the sample deviation is given, here in units of the true one. scipy's
    # noncentral t is NaN at many of these arguments, so that a solver stops far from the solution.
    reach = critical * np.sqrt(chi2.ppf((np.arange(STEPS) + 0.5) / STEPS, freedom) / freedom)

    def power_above_goal(z: float) -> float:
        return float((norm.sf(reach - z) + norm.cdf(-reach - z)).mean()) - POWER

    return float(brentq(power_above_goal, 0, reach[-1] + critical))


def power_statement(values: dict[str, Values], rows: str = "prompts") -> str:
    """State which differences cannot be seen with the rows at hand.

    The median spread of the paired differences decides.

    Args:
        values: (n,) shares by variant.
        rows: what a row is, in the plural.

    Returns:
        A sentence with the difference in points; empty if there is nothing to compare.
    """
    gaps = [a - b for a, b in combinations(values.values(), 2)]
    gaps = [gap[np.isfinite(gap)] for gap in gaps]
    gaps = [gap for gap in gaps if len(gap) > TWO]  # a withheld variant has none left
    spreads = [float(gap.std(ddof=1)) for gap in gaps if np.ptp(gap) > 0]
    if not spreads:
        return ""
    n = min(len(gap) for gap in gaps)
    points = 100 * detectable(float(np.median(spreads)), n, len(gaps))
    return f"With n = {n} {rows} differences under {points:.0f} points between two variants will mostly not be seen."
