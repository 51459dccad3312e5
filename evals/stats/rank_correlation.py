"""Spearman's rank correlation between two values of the same rows, with an interval over rows."""

from __future__ import annotations

import numpy as np

from prefzoo.evals.stats.intervals import NOTHING, Estimate, Values, of_resamples

RESAMPLES = 2000
THREE = 3  # fewest rows whose order is informative


def rank_correlation(a: Values, b: Values, seed: int = 0) -> Estimate:
    """Estimate Spearman's rank correlation (Spearman 1904) with scipy, and its interval with a bootstrap over rows.

    Args:
        a, b: (n,) values of each row. Rows where either is not finite are left out.
        seed: seed of the bootstrap.

    Returns:
        The correlation, with its 95% interval; NaN with fewer than three rows, or if `a` or `b` is constant.
    """
    from scipy.stats import rankdata, spearmanr

    kept = np.isfinite(a) & np.isfinite(b)
    a, b = a[kept], b[kept]
    if len(a) < THREE or np.ptp(a) == 0 or np.ptp(b) == 0:
        return NOTHING
    rows = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    first, second = (rankdata(values[rows], axis=1) for values in (a, b))
    first, second = (ranks - ranks.mean(1, keepdims=True) for ranks in (first, second))
    scale = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    resampled = (first * second).sum(1)[scale > 0] / scale[scale > 0]
    return of_resamples(float(spearmanr(a, b).statistic), resampled, len(a))
