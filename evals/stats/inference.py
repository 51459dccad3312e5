"""Inference for rows that are not independent, such as answers to one prompt or runs of several seeds, and its power.

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
TWO = 2  # fewest clusters, prompts or seeds that have a spread
STEPS = 10_000  # quantiles in a numerical mean over a distribution
LARGE = 1e6  # degrees of freedom above which a t distribution no longer changes
GRID = 2  # dimensions of a (seeds, prompts) array
HALF_CELL = 0.5  # Agresti & Min's pseudo-count for each cell of the 2 x 2 table


def clustered_mean(values: Values, clusters: Sequence[object] | NDArray[np.int64]) -> Estimate:
    """Estimate a mean over rows in clusters, such as several answers to one prompt.

    Args:
        values: (n,) values; those that are not finite are left out.
        clusters: (n,) cluster of each row.

    Returns:
        The mean, with a cluster-robust standard error and a t interval of G - 1 degrees of freedom for G clusters. Its
        `n` is G.
    """
    kept = np.isfinite(values)
    values, cluster = values[kept], np.unique(np.asarray(clusters)[kept], return_inverse=True)[1]
    groups = int(cluster.max()) + 1 if len(cluster) else 0
    value = float(values.mean()) if groups else np.nan
    if groups < TWO:
        return Estimate(value, np.nan, np.nan, np.nan, groups)
    sums = np.bincount(cluster, values - value)  # residuals are summed within a cluster
    stderr = float(np.sqrt(groups / (groups - 1) * (sums**2).sum()) / len(values))
    return _estimate(value, stderr, groups - 1, groups)


def clustered_difference(a: Values, b: Values, clusters: Sequence[object] | NDArray[np.int64]) -> Difference:
    """Estimate the mean of a - b over rows in clusters.

    Args:
        a: (n,) values of one variant.
        b: (n,) values of the other variant on the same rows.
        clusters: (n,) cluster of each row.

    Returns:
        The difference, with an interval and p from the cluster-robust standard error.
    """
    gap = clustered_mean(a - b, clusters)
    return Difference(gap.value, gap.low, gap.high, _p(gap.value, gap.stderr, gap.n - 1))


def mcnemar(a: Values, b: Values) -> Difference:
    """Estimate the difference of two shares over the same prompts.

    Args:
        a: (n,) values of one variant, each 0 or 1.
        b: (n,) values of the other variant.

    Returns:
        The difference, with the interval of Agresti & Min and p of McNemar's exact test.

    Raises:
        ValueError: a value is neither 0 nor 1.
    """
    if not np.isin(np.concatenate([a, b]), (0, 1)).all():
        raise ValueError("McNemar's test is for values of 0 and 1; use paired_difference for other values")
    n, only_a, only_b = len(a), int((a > b).sum()), int((b > a).sum())
    p = float(mcnemar_test([[0, only_a], [only_b, 0]], exact=True).pvalue)
    one, two, size = only_a + HALF_CELL, only_b + HALF_CELL, n + 4 * HALF_CELL
    center, stderr = (one - two) / size, np.sqrt(one + two - (one - two) ** 2 / size) / size
    reach = float(student.ppf((1 + LEVEL) / 2, np.inf) * stderr)
    return Difference((only_a - only_b) / n, max(-1.0, center - reach), min(1.0, center + reach), p)


def seeded_mean(values: Values) -> Estimate:
    """Estimate a mean over seeds and prompts that are both random samples.

    $$ SE^2 = s^2_{seeds}/S + s^2_{prompts}/n - s^2_{rest}/(nS) $$

    The terms are the variance of the S seed means, that of the n prompt means, and the residual variance, which the
    first two both contain.

    Args:
        values: (seeds, prompts) values. With one seed the interval only covers the uncertainty over prompts.

    Returns:
        The mean. Its `n` is the number of prompts.
    """
    prompts, n = values.mean(0), values.shape[1]
    parts = [(float(prompts.var(ddof=1)) / n, n - 1), *_seed_part(values)]
    return _estimate(float(values.mean()), *_together(parts, _rest(values)), n)


def seeded_difference(a: Values, b: Values) -> Difference:
    """Estimate the mean of a - b over the same prompts and independent seeds.

    Args:
        a: (seeds, prompts) values of one variant.
        b: (seeds, prompts) values of the other variant; the numbers of seeds may differ.

    Returns:
        The difference, with an interval over seeds and prompts.
    """
    return by_student(*seeded_gap(a, b))


def seeded_gap(a: Values, b: Values) -> tuple[float, float, float]:
    """Return the mean of a - b over the same prompts, its standard error, and the degrees of freedom of that error.

    Args:
        a: (seeds, prompts) values of one variant.
        b: (seeds, prompts) values of the other variant; the numbers of seeds may differ.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if a.ndim != GRID or b.ndim != GRID or a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape} and {b.shape}: both must be (seeds, prompts) over the same prompts")
    gap, n = a.mean(0) - b.mean(0), a.shape[1]
    parts = [(float(gap.var(ddof=1)) / n, n - 1), *_seed_part(a), *_seed_part(b)]
    return float(gap.mean()), *_together(parts, _rest(a) + _rest(b))


def seeded_slope(values: Values, at: Values) -> tuple[float, float, float]:
    r"""Return by how much a mean changes with a setting, the standard error of that, and its degrees of freedom.

    A line is fitted to the means of all trainings by least squares, with a level of its own for each seed. The error
    spans trainings and prompts: what remains beside the line, and the slopes of the prompts.

    $$ SE^2 = s^2_{beside} \sum w^2 + s^2_{slopes}/n - s^2_{rest} \sum w^2/n $$

    w are the weights of the trainings in the slope: $w = (x - \bar x) / \sum (x - \bar x)^2$.

    Args:
        values: (settings, seeds, prompts) values; the same seeds and prompts at every setting. For the difference of
            two variants, the values of one less those of the other.
        at: (settings,) the setting, three or more.

    Returns:
        The slope, in the unit of the values per unit of the setting, its standard error and the degrees of freedom.
    """
    settings, seeds, n = values.shape
    x = np.asarray(at, dtype=float) - np.mean(at)
    weights = x / (x @ x) / seeds
    slopes = np.einsum("l,lsp->p", weights, values)
    beside = values - values.mean(0) - x[:, None, None] * slopes
    means = beside.mean(2, keepdims=True)
    freedom, scale = settings * seeds - seeds - 1, float((weights**2).sum() * seeds)
    trainings = float((means**2).sum()) / freedom * scale
    rest = float(((beside - means) ** 2).sum()) / (freedom * (n - 1)) / n * scale
    parts = [(float(slopes.var(ddof=1)) / n, n - 1), (trainings, freedom)]
    return float(slopes.mean()), *_together(parts, rest)


def by_student(value: float, stderr: float, freedom: float) -> Difference:
    """Return a difference with its 95% interval and p by a t distribution.

    Args:
        value: the difference.
        stderr: its standard error.
        freedom: the degrees of freedom of that error.

    Returns:
        The difference.
    """
    reach = float(student.ppf((1 + LEVEL) / 2, freedom)) * stderr
    return Difference(value, value - reach, value + reach, _p(value, stderr, freedom))


def _seed_part(values: Values) -> list[tuple[float, int]]:
    seeds = len(values)
    return [(float(values.mean(1).var(ddof=1)) / seeds, seeds - 1)] if seeds >= TWO else []


def _rest(values: Values) -> float:
    """Return the residual part of the mean's variance, which the variances of seed and prompt means both contain."""
    seeds, n = values.shape
    if seeds < TWO:
        return 0.0
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((seeds - 1) * (n - 1)) / (seeds * n))


def _together(parts: Sequence[tuple[float, int]], twice: float) -> tuple[float, float]:
    """Return a standard error and Satterthwaite's degrees of freedom.

    Args:
        parts: variances to add up, each with its degrees of freedom.
        twice: variance to subtract, since two of the parts contain it. The sum is at least the largest part.
    """
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
    """Return the true difference that a paired t test detects with a power of 80%.

    Args:
        deviation: standard deviation over prompts of the difference between two variants.
        n: the number of prompts.
        comparisons: the number of tests for which p is corrected.

    Returns:
        The difference in the unit of `deviation`.
    """
    return detectable_by(deviation / float(np.sqrt(n)), n - 1, comparisons)


def detectable_by(stderr: float, freedom: float, comparisons: int = 1) -> float:
    """Return the true difference that a t test detects with a power of 80%.

    Args:
        stderr: standard error of the difference.
        freedom: degrees of freedom of that standard error.
        comparisons: the number of tests for which p is corrected.

    Returns:
        The difference in the unit of `stderr`.
    """
    return stderr * _reach(min(freedom, LARGE), comparisons)


@cache
def _reach(freedom: float, comparisons: int) -> float:
    """Return the difference, in standard errors, that a t test detects with a power of 80%."""
    alpha = (1 - LEVEL) / max(1, comparisons)  # Holm's level for the smallest p
    critical = float(student.isf(alpha / 2, freedom))
    # For a given ratio of sample to true deviation the power is that of a normal test; average it over the ratio's
    # quantiles. scipy's noncentral t is NaN at many of these arguments, so that a solver stops far from the solution.
    reach = critical * np.sqrt(chi2.ppf((np.arange(STEPS) + 0.5) / STEPS, freedom) / freedom)

    def power_above_goal(z: float) -> float:
        return float((norm.sf(reach - z) + norm.cdf(-reach - z)).mean()) - POWER

    return float(brentq(power_above_goal, 0, reach[-1] + critical))


def power_statement(values: dict[str, Values], rows: str = "prompts") -> str:
    """State the smallest difference that the run can detect with a power of 80%.

    The calculation uses the median spread of the paired differences between variants.

    Args:
        values: (n,) shares of each variant, by name.
        rows: the kind of the n rows, in the plural.

    Returns:
        A sentence with the difference in percentage points; empty if there is nothing to compare.
    """
    gaps = [a - b for a, b in combinations(values.values(), 2)]
    gaps = [gap[np.isfinite(gap)] for gap in gaps]
    gaps = [gap for gap in gaps if len(gap) > TWO]  # a withheld variant has none
    spreads = [float(gap.std(ddof=1)) for gap in gaps if np.ptp(gap) > 0]
    if not spreads:
        return ""
    n = min(len(gap) for gap in gaps)
    points = 100 * detectable(float(np.median(spreads)), n, len(gaps))
    return f"With n = {n} {rows} differences under {points:.0f} points between two variants will mostly not be seen."
