"""Inference on simulated data with known truth: 2 000 simulations each, drawn at once and with a fixed seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats as scipy_stats
from scipy.integrate import quad

from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import (
    by_student,
    clustered_difference,
    clustered_mean,
    detectable,
    mcnemar,
    power_statement,
    seeded_difference,
    seeded_mean,
    seeded_slope,
)
from prefzoo.evals.stats.intervals import Values

RUNS = 2000
MOST_FALSE = 0.05 + 2 * math.sqrt(0.05 * 0.95 / RUNS)  # 5%, and two standard deviations of 2 000 draws


def covers(estimates: list[intervals.Estimate] | list[intervals.Difference], truth: float) -> float:
    return float(np.mean([f.low <= truth <= f.high for f in estimates]))


def false_positives(differences: list[intervals.Difference]) -> float:
    return float(np.mean([f.p <= 0.05 for f in differences]))


def test_clustered_by_hand_and_equal_to_statsmodels() -> None:
    values, clusters = np.array([1.0, 3.0, 2.0, 6.0]), ["a", "a", "b", "c"]
    # mean 3; residual sums -2, -1, 3; sqrt(3 / 2 * (4 + 1 + 9)) / 4
    estimate = clustered_mean(values, clusters)
    assert (estimate.value, estimate.n) == (3.0, 3) and estimate.stderr == pytest.approx(math.sqrt(21) / 4)
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 30, 200)
    rows = rng.normal(size=200) + rng.normal(size=30)[groups]
    theirs = sm.OLS(rows, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    # statsmodels corrects by G / (G - 1) * (n - 1) / (n - 1) for one parameter
    assert clustered_mean(rows, groups).stderr == pytest.approx(float(theirs.bse[0]))


def test_clusters_of_one_are_the_common_t_interval() -> None:
    values = np.random.default_rng(1).normal(size=12)
    estimate, theirs = clustered_mean(values, range(12)), scipy_stats.ttest_1samp(values, 0).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((theirs.low, theirs.high))
    paired = clustered_difference(values, np.zeros(12), range(12))
    assert paired.p == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue)


@pytest.mark.slow
def test_clustered_intervals_cover_where_the_naive_one_does_not() -> None:
    rng = np.random.default_rng(2)
    prompts, each = 60, 4
    clusters = np.repeat(np.arange(prompts), each)
    rows = np.repeat(rng.normal(size=(RUNS, prompts)), each, axis=1) + rng.normal(size=(RUNS, prompts * each))
    estimates = [clustered_mean(row, clusters) for row in rows]
    assert 0.93 <= covers(estimates, 0) <= 0.97
    assert covers([clustered_mean(row, range(len(row))) for row in rows[:500]], 0) < 0.85
    null = [clustered_difference(row, np.zeros_like(row), clusters) for row in rows]
    assert false_positives(null) <= MOST_FALSE


@pytest.mark.slow
def test_mcnemar_by_hand_covers_and_keeps_its_level() -> None:
    a, b = np.array([1.0, 1, 1, 1, 0, 0]), np.array([0.0, 0, 0, 1, 1, 0])
    difference = mcnemar(a, b)
    # 3 against 1 of 4 discordant: 2 * (1 + 4) / 16 = 0.625
    assert difference.value == pytest.approx(2 / 6) and difference.p == pytest.approx(0.625)
    with pytest.raises(ValueError, match="for values of 0 and 1"):
        mcnemar(a, b / 2)
    rng = np.random.default_rng(3)
    n = 100
    skill = rng.normal(size=(RUNS, n))
    one, two = ((skill + rng.normal(size=(RUNS, n)) > cut).astype(float) for cut in (0.0, 0.5))
    truth = scipy_stats.norm.sf(0) - scipy_stats.norm.sf(0.5 / math.sqrt(2))
    assert 0.93 <= covers([mcnemar(x, y) for x, y in zip(one, two, strict=True)], truth) <= 0.97
    same = (skill + rng.normal(size=(RUNS, n)) > 0).astype(float)
    assert false_positives([mcnemar(x, y) for x, y in zip(one, same, strict=True)]) <= MOST_FALSE


@pytest.mark.slow
def test_wilson_covers() -> None:
    rng = np.random.default_rng(4)
    for share in (0.1, 0.5, 0.9):
        estimates = [intervals.proportion(int(k), 100) for k in rng.binomial(100, share, RUNS)]
        assert 0.93 <= covers(estimates, share) <= 0.97


@pytest.mark.slow
def test_bootstrap_and_sign_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    rng = np.random.default_rng(5)
    wins = rng.choice([0.0, 0.5, 1.0], p=[0.3, 0.2, 0.5], size=(RUNS, 100))
    estimates = [intervals.mean(row, seed=i) for i, row in enumerate(wins)]
    assert 0.93 <= covers(estimates, 0.6) <= 0.97
    others = rng.permuted(wins, axis=1)[::-1]
    null = [intervals.paired_difference(x, y, seed=i) for i, (x, y) in enumerate(zip(wins, others, strict=True))]
    assert 0.93 <= covers(null, 0) <= 0.97 and false_positives(null) <= MOST_FALSE


def test_holm_keeps_the_level_of_the_whole_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels collects garbage in every call, which takes 99% of it
    rng = np.random.default_rng(6)
    base = rng.normal(size=(RUNS, 50))
    variants = [base + rng.normal(size=(RUNS, 50)) for _ in range(4)]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    p = np.stack([scipy_stats.ttest_rel(variants[i], variants[j], axis=1).pvalue for i, j in pairs])
    assert np.mean([min(intervals.holm(list(column))) <= 0.05 for column in p.T]) <= MOST_FALSE
    assert np.mean((p <= 0.05).any(0)) > 0.1  # what goes uncorrected finds something in one board of five


def grid(rng: np.random.Generator, seeds: int, prompts: Values, spread: float) -> Values:
    """(runs, seeds, prompts): prompt effects, seed effects of standard deviation `spread`, and noise."""
    runs, n = prompts.shape
    noise = rng.normal(size=(runs, seeds, n))
    return np.asarray(prompts[:, None] + spread * rng.normal(size=(runs, seeds, 1)) + noise)


@pytest.mark.slow
def test_seeds_are_a_second_level() -> None:
    rng = np.random.default_rng(7)
    prompts = rng.normal(size=(RUNS, 80))
    values = grid(rng, 5, prompts, 0.3)
    assert 0.93 <= covers([seeded_mean(v) for v in values], 0) <= 0.97
    over_prompts_alone = [clustered_mean(v.mean(0), range(80)) for v in values[:500]]
    assert covers(over_prompts_alone, 0) < 0.88
    other = grid(rng, 5, prompts, 0.3)
    differences = [seeded_difference(a, b) for a, b in zip(values, other, strict=True)]
    assert 0.93 <= covers(differences, 0) <= 0.97 and false_positives(differences) <= MOST_FALSE


@pytest.mark.slow
def test_few_seeds_and_no_seed_effect_are_on_the_safe_side() -> None:
    rng = np.random.default_rng(8)
    prompts = rng.normal(size=(RUNS, 80))
    for seeds, spread in ((2, 0.3), (3, 0.0), (3, 0.3)):
        a, b = grid(rng, seeds, prompts, spread), grid(rng, seeds, prompts, spread)
        differences = [seeded_difference(x, y) for x, y in zip(a, b, strict=True)]
        assert covers(differences, 0) >= 0.93 and false_positives(differences) <= MOST_FALSE


SHARES = np.array([0.0, 1.0, 2.0, 4.0])


def test_a_slope_of_trainings_is_that_of_least_squares_with_a_level_for_each_seed() -> None:
    means = np.random.default_rng(3).normal(size=(4, 2))
    design = np.column_stack([np.repeat(SHARES, 2), np.tile([1, 0], 4), np.tile([0, 1], 4)])
    theirs = sm.OLS(means.ravel(), design).fit()
    value, stderr, freedom = seeded_slope(np.repeat(means[:, :, None], 50, axis=2), SHARES)
    assert (value, stderr, freedom) == pytest.approx((theirs.params[0], theirs.bse[0], theirs.df_resid))
    low, high = theirs.conf_int()[0]
    ours = by_student(value, stderr, freedom)
    assert (ours.low, ours.high, ours.p) == pytest.approx((low, high, theirs.pvalues[0]))


@pytest.mark.slow
@pytest.mark.parametrize(("trainings", "prompts"), [(0.3, 0.0), (0.3, 0.3), (0.0, 0.3), (0.0, 0.0)])
def test_the_interval_of_a_slope_covers(trainings: float, prompts: float) -> None:
    rng = np.random.default_rng(12)
    covered, false = [], []
    for _ in range(RUNS):
        level = rng.normal(size=(1, 2, 1)) + rng.normal(size=(1, 1, 80))
        slopes = (1 + prompts * rng.normal(size=80)) * SHARES[:, None, None]
        noise = trainings * rng.normal(size=(4, 2, 1)) + rng.normal(size=(4, 2, 80))
        one = by_student(*seeded_slope(level + slopes + noise, SHARES))
        covered.append(one.low <= 1 <= one.high)
        false.append(by_student(*seeded_slope(level + slopes - SHARES[:, None, None] + noise, SHARES)).p <= 0.05)
    assert np.mean(covered) >= 0.935 and np.mean(false) <= MOST_FALSE


def test_one_seed_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(1, 30)), rng.normal(size=(1, 30))
    difference, theirs = seeded_difference(a, b), scipy_stats.ttest_rel(a[0], b[0])
    assert difference.p == pytest.approx(theirs.pvalue) and difference.value == pytest.approx(a.mean() - b.mean())
    assert seeded_mean(a).stderr == pytest.approx(a.std(ddof=1) / math.sqrt(30))
    with pytest.raises(ValueError, match="over the same prompts"):
        seeded_difference(a, b[:, 1:])


def test_degenerate_data() -> None:
    assert clustered_mean(np.array([]), []).n == 0
    assert clustered_difference(np.array([1.0]), np.array([0.0]), ["a"]).p == 1
    assert clustered_difference(np.ones(4), np.ones(4), range(4)).p == 1
    assert clustered_difference(np.ones(4), np.zeros(4), range(4)).p == 0
    kept = clustered_mean(np.array([1.0, np.nan, 3.0]), [1, 2, 3])
    assert (kept.value, kept.n) == (2.0, 2)


def test_what_is_detectable_is_detected_four_times_in_five() -> None:
    rng = np.random.default_rng(10)
    for comparisons in (1, 6):
        effect = detectable(0.5, 100, comparisons)
        p = scipy_stats.ttest_1samp(rng.normal(effect, 0.5, size=(RUNS, 100)), 0, axis=1).pvalue
        assert np.mean(p <= 0.05 / comparisons) == pytest.approx(0.8, abs=0.03)
    # (1.96 + 0.84) * 0.5 / sqrt(100) = 0.14, and a little more for t
    assert detectable(0.5, 100) == pytest.approx(0.1415, abs=1e-3)


@pytest.mark.parametrize(("n", "comparisons"), [(3, 1), (10, 1), (10, 120), (100, 1953), (1000, 2000), (20_000, 6)])
def test_the_power_at_what_is_detectable_by_integration(n: int, comparisons: int) -> None:
    z = detectable(1.0, n, comparisons) * math.sqrt(n)
    critical = scipy_stats.t.isf(0.05 / comparisons / 2, n - 1)

    def density_of_detection(mean: float) -> float:
        """Of the z score `mean`, times the probability that the sample deviation is small enough for it."""
        return float(scipy_stats.norm.pdf(mean - z) * scipy_stats.chi2.cdf((n - 1) * (mean / critical) ** 2, n - 1))

    power = quad(density_of_detection, z - 10, z + 10, points=[z], limit=500)[0]
    assert power == pytest.approx(0.8, abs=1e-4)


def test_the_power_statement() -> None:
    rng = np.random.default_rng(11)
    wins = {name: rng.choice([0.0, 1.0], size=100) for name in "ab"}
    spread = float((wins["a"] - wins["b"]).std(ddof=1))
    points = round(100 * detectable(spread, 100))
    assert power_statement(wins) == (
        f"With n = 100 prompts differences under {points} points between two variants will mostly not be seen."
    )
    assert power_statement({"a": wins["a"]}) == "" == power_statement({"a": wins["a"], "b": wins["a"]})


def test_a_withheld_variant_does_not_stand_in_the_way_of_the_others() -> None:
    rng = np.random.default_rng(0)
    values = {name: rng.integers(0, 2, 50).astype(float) for name in "abc"}
    assert power_statement({**values, "withheld": np.full(50, np.nan)}) == power_statement(values) != ""
    assert power_statement({"a": values["a"], "withheld": np.full(50, np.nan)}) == ""
