"""Estimates against arithmetic worked by hand, and whether the intervals cover what they promise."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import bootstrap, permutation_test
from statsmodels.stats.multitest import multipletests

from prefzoo.evals.stats import intervals


def array(*values: float) -> intervals.Values:
    return np.array(values, dtype=float)


def test_win_rate_counts_ties_half() -> None:
    estimate = intervals.share_won(intervals.wins(array(3, 2, 1, 5), array(1, 2, 2, 1)))
    # won, tied, lost, won: (1 + 0.5 + 0 + 1) / 4
    assert estimate.value == 0.625
    # deviations .375, -.125, -.625, .375: squares sum to .6875; / 3 / 4, then the root
    assert estimate.stderr == pytest.approx(math.sqrt(0.6875 / 3 / 4))
    assert 0 <= estimate.low < 0.625 < estimate.high <= 1
    assert estimate.n == 4


def test_win_rate_against_itself_is_one_half_with_wilsons_interval() -> None:
    estimate = intervals.share_won(intervals.wins(array(1, 2, 3, 4), array(1, 2, 3, 4)))
    # Wilson at p = 1/2, n = 4, z = 1.959964: centre 1/2, half-width z / 2 / sqrt(n + z^2) = 0.979982 / sqrt(7.841459)
    half = 0.979982 / math.sqrt(7.841459)
    assert (estimate.value, estimate.stderr, estimate.n) == (0.5, 0.0, 4)
    assert (estimate.low, estimate.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


@pytest.mark.parametrize(("won", "value"), [(1.0, 1.0), (-1.0, 0.0)])
def test_win_rate_of_all_or_nothing_is_not_certain(won: float, value: float) -> None:
    estimate = intervals.share_won(intervals.wins(np.full(10, won), np.zeros(10)))
    # Wilson at p = 1, n = 10: from n / (n + z^2) = 10 / 13.841459 to 1
    edge = 10 / 13.841459
    assert estimate.value == value
    expected = (edge, 1.0) if value else (0.0, 1 - edge)
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=1e-6)


def test_different_prompt_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2 prompts: the scores are of different prompt sets"):
        intervals.wins(array(1, 2, 3), array(1, 2))


def test_mean_leaves_out_what_is_not_finite() -> None:
    estimate = intervals.mean(array(1, np.nan, 0, np.inf))
    assert (estimate.value, estimate.n) == (0.5, 2)
    nothing = intervals.mean(array(np.nan))
    assert nothing.n == 0 and math.isnan(nothing.value) and math.isnan(nothing.low)


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert intervals.mean(values, seed=1) == intervals.mean(values, seed=1)
    assert intervals.mean(values, seed=1) != intervals.mean(values, seed=2)


def test_proportion_is_wilsons() -> None:
    estimate = intervals.proportion(5, 20)
    # z^2 = 3.841459; centre (5 + z^2/2) / (20 + z^2); half-width z * sqrt(20 * .25 * .75 + z^2/4) / (20 + z^2)
    centre = (5 + 1.9207295) / 23.841459
    half = 1.959964 * math.sqrt(3.75 + 0.96036475) / 23.841459
    assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert estimate.stderr == pytest.approx(math.sqrt(0.25 * 0.75 / 20))


def test_paired_difference_by_hand() -> None:
    difference = intervals.paired_difference(array(3, 4, 5), array(2, 2, 2))
    # differences 1, 2, 3; of the 8 sign patterns only +++ and --- have a mean as far from 0 as 2
    assert difference.value == 2
    assert difference.p == pytest.approx(2 / 8)
    assert 1 <= difference.low < 2 < difference.high <= 3


def test_paired_difference_is_antisymmetric() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=9), rng.normal(size=9)  # 512 sign patterns: the test is exact
    there, back = intervals.paired_difference(a, b), intervals.paired_difference(b, a)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low), abs=0.1)
    assert there.value == -back.value and there.p == pytest.approx(back.p)


def test_pairing_sees_what_unpaired_spread_hides() -> None:
    prompts = np.random.default_rng(4).normal(scale=10, size=60)
    a = prompts + 0.5 + np.random.default_rng(5).normal(scale=0.5, size=60)
    difference = intervals.paired_difference(a, prompts)
    assert difference.p < 0.01 and difference.low > 0
    assert intervals.mean(a).low < intervals.mean(prompts).value < intervals.mean(a).high


@pytest.mark.parametrize("constant", [0.0, 1.0, -2.0])
def test_paired_difference_of_a_constant(constant: float) -> None:
    difference = intervals.paired_difference(np.full(12, constant), np.zeros(12))
    assert (difference.value, difference.low, difference.high) == (constant, constant, constant)
    # 4096 sign patterns, more than are drawn: two of them are as extreme, or all of them where nothing differs
    assert difference.p == 1 if constant == 0 else difference.p < 0.01


def test_paired_difference_without_a_common_prompt() -> None:
    difference = intervals.paired_difference(array(np.nan, 1), array(1, np.nan))
    assert math.isnan(difference.value) and difference.p == 1


def test_one_common_prompt_proves_nothing() -> None:
    difference = intervals.paired_difference(array(1, np.nan), array(0, 1))
    # of the two sign patterns + and -, both have a mean as far from 0 as 1
    assert difference == intervals.Difference(1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("n", [6, 40])  # all 64 sign patterns; 4000 drawn ones
def test_a_board_is_its_pairs_one_by_one_and_scipys(n: int) -> None:
    rng = np.random.default_rng(7)
    board = {name: rng.choice([0, 0.5, 1], size=n) for name in ("d", "a", "c", "b")}
    board["c"][2] = np.nan  # pairs with c have other prompts in common than the rest
    differences = intervals.paired_differences(board)
    assert list(differences) == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
    for (one, other), got in differences.items():
        assert astuple(got) == pytest.approx(astuple(intervals.paired_difference(board[one], board[other])), abs=1e-12)
        difference = board[one] - board[other]
        difference = difference[np.isfinite(difference)]
        flips = permutation_test(
            (difference,), np.mean, permutation_type="samples", n_resamples=4000, rng=np.random.default_rng(0)
        )
        assert got.p == pytest.approx(flips.pvalue, abs=1e-12)
        drawn = bootstrap((difference,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0))
        assert (got.low, got.high) == pytest.approx(tuple(drawn.confidence_interval), abs=1e-12)


def test_a_board_of_different_prompt_sets_is_refused() -> None:
    with pytest.raises(ValueError, match="the scores are of different prompt sets"):
        intervals.paired_differences({"a": array(1, 2), "b": array(1, 2, 3)})


def test_holm_by_hand() -> None:
    # ascending .01, .02, .04 times 3, 2, 1 = .03, .04, .04
    assert intervals.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert intervals.holm([]) == []


@pytest.mark.slow
def test_many_comparisons_do_not_hide_a_clear_difference() -> None:
    """Forty variants: 780 comparisons. One wins every prompt where the others win half: p = 2 / 2^50 or so."""
    rng = np.random.default_rng(0)
    values = {f"v{i:02d}": rng.permutation([0.0, 1.0] * 50) for i in range(39)} | {"x": np.ones(100)}
    differences = intervals.paired_differences(values)
    p = dict(zip(differences, intervals.holm([d.p for d in differences.values()]), strict=True))
    assert all(p[f"v{i:02d}", "x"] <= 0.05 for i in range(39))
    assert sum(v <= 0.05 for v in p.values()) == 39


def test_holm_is_statsmodels() -> None:
    p = list(np.random.default_rng(0).uniform(0, 0.1, 40)) + [0.0, 1.0, 0.01, 0.01]
    assert intervals.holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]), abs=1e-15)
    assert intervals.holm([]) == []
