"""Spearman's correlation: scipy's value, an interval that narrows with rows, and what has no order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from prefzoo.evals.stats.rank_correlation import rank_correlation


def rows(n: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    return x, x + noise * rng.normal(size=n)


def test_the_value_is_scipys_with_ties_and_gaps() -> None:
    a, b = np.array([1.0, 2, 2, 4, 9, np.nan]), np.array([2.0, 1, 5, 5, 7, 3])
    estimate = rank_correlation(a, b)
    assert estimate.value == pytest.approx(spearmanr(a[:5], b[:5]).statistic) and estimate.n == 5
    assert estimate.low <= estimate.value <= estimate.high


def test_more_rows_narrow_the_interval_and_a_relation_is_told_from_none() -> None:
    few, many = (rank_correlation(*rows(n, 1.0)) for n in (20, 500))
    assert many.high - many.low < few.high - few.low and many.low > 0.5
    unrelated = rank_correlation(rows(40, 0)[0], rows(40, 0)[0][::-1])
    assert unrelated.low < 0 < unrelated.high


def test_a_perfect_order_is_one() -> None:
    x = np.arange(12.0)
    assert rank_correlation(x, x**3).value == pytest.approx(1) and rank_correlation(x, -x).high == pytest.approx(-1)


@pytest.mark.parametrize("values", [np.array([1.0, 2]), np.ones(5)])
def test_nothing_to_order(values: np.ndarray) -> None:
    assert np.isnan(rank_correlation(values, np.arange(float(len(values)))).value)
