"""Win rates corrected for a judge's errors: the formulas, and how often their intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from prefzoo.evals.stats.intervals import Values, paired_difference
from prefzoo.evals.stats.judge_error import (
    Corrected,
    Labels,
    no_better_than_chance,
    prediction_powered,
    rogan_gladen,
    with_ties,
)


def judged(rng: np.random.Generator, human: Values, q1: float, q0: float) -> Values:
    """A judge's verdicts: right with probability q1 where people prefer the second answer, and q0 where the first."""
    right = np.where(human == 1, rng.random(len(human)) < q1, rng.random(len(human)) < q0)
    return np.where(right, human, 1 - human).astype(float)


def people(rng: np.random.Generator, n: int, rate: float) -> Values:
    return (rng.random(n) < rate).astype(float)


def by_other_labels(
    rng: np.random.Generator, n: int, m: int, rate: float, q: float, symmetric: bool
) -> Corrected | None:
    won = judged(rng, people(rng, n, rate), q, q if symmetric else q - 0.1)
    human = people(rng, m, 0.5)
    labels = Labels(judged(rng, human, q, q if symmetric else q - 0.1), human, np.arange(n, n + m))
    return rogan_gladen(won, labels, symmetric=symmetric)


def by_own_labels(rng: np.random.Generator, n: int, m: int, rate: float, q: float) -> Corrected | None:
    human = people(rng, n, rate)
    won, at = judged(rng, human, q, q - 0.1), rng.choice(n, m, replace=False)
    return prediction_powered(won, np.where(np.isin(np.arange(n), at), human, np.nan))


def covered(rates: list[Corrected | None], truth: float) -> float:
    kept = [r.estimate for r in rates if r is not None]
    assert len(kept) > 0.9 * len(rates)
    return float(np.mean([e.low <= truth <= e.high for e in kept]))


def test_the_formula_is_rogan_and_gladens() -> None:
    human = np.repeat([1.0, 0.0], [40, 60])
    verdicts = np.concatenate([np.repeat([1.0, 0.0], [32, 8]), np.repeat([0.0, 1.0], [42, 18])])  # q1 = .8, q0 = .7
    won = np.repeat([1.0, 0.0], [620, 380])
    rate = rogan_gladen(won, Labels(verdicts, human, np.arange(1000, 1100)), symmetric=False)
    assert rate is not None
    assert rate.estimate.value == pytest.approx((0.62 + 0.7 - 1) / (0.7 + 0.8 - 1), abs=0.01)
    assert rate.estimate.low < rate.estimate.value < rate.estimate.high and np.nanmean(rate.rows) == pytest.approx(
        rate.estimate.value
    )
    both = rogan_gladen(won, Labels(verdicts, human, np.arange(1000, 1100)))
    assert both is not None and both.estimate.value == pytest.approx((0.62 + 0.74 - 1) / (2 * 0.74 - 1), abs=0.01)


def test_a_perfect_judge_is_left_as_it_is() -> None:
    rng = np.random.default_rng(0)
    won, human = people(rng, 500, 0.6), people(rng, 2000, 0.5)
    rate = rogan_gladen(won, Labels(human, human, np.arange(500, 2500)))
    assert rate is not None and rate.estimate.value == pytest.approx(won.mean(), abs=0.001)
    assert rate.estimate.stderr == pytest.approx(won.std() / 500**0.5, rel=0.05)


def test_prediction_powered_is_ppi_pythons() -> None:
    """The number is ppi-python 0.2.3's `ppi_mean_pointestimate(h, f, others, lam=0.511627906976744)`.

    Its lambda is of sets without an element in common: the covariance over the variance, times 40 / 60 here.
    """
    h = np.array([1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0], dtype=float)
    f = np.array([1, 0, 1, 0.5, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0.5, 1, 1, 0, 1, 1, 0], dtype=float)
    others = np.array([1, 1, 0, 1, 0, 1, 1, 0, 1, 0.5] * 4, dtype=float)
    rate = prediction_powered(np.concatenate([f, others]), np.concatenate([h, np.full(40, np.nan)]))
    assert rate is not None and rate.labels == 20
    assert rate.estimate.value == pytest.approx(0.6255813953, abs=1e-9)


def test_a_judge_that_says_nothing_leaves_the_labels_alone() -> None:
    rng = np.random.default_rng(3)
    human = people(rng, 400, 0.6)
    rate = prediction_powered(people(rng, 400, 0.5), np.where(np.arange(400) < 100, human, np.nan))
    assert rate is not None and rate.effective == pytest.approx(100, rel=0.15)
    informed = prediction_powered(judged(rng, human, 0.95, 0.95), np.where(np.arange(400) < 100, human, np.nan))
    assert informed is not None and informed.effective > 180


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [True, False])
def test_intervals_by_error_rates_hold_the_truth(symmetric: bool) -> None:
    rng = np.random.default_rng(4)
    rates = [by_other_labels(rng, 200, 80, 0.65, 0.85, symmetric) for _ in range(400)]
    assert 0.925 <= covered(rates, 0.65) <= 0.98


@pytest.mark.slow
def test_intervals_of_prediction_powered_rates_hold_the_truth() -> None:
    rng = np.random.default_rng(5)
    assert 0.925 <= covered([by_own_labels(rng, 200, 50, 0.65, 0.85) for _ in range(600)], 0.65) <= 0.98


def with_undecided(rng: np.random.Generator, n: int, rate: float, q: float, ties: float) -> tuple[Values, Values]:
    """People's verdicts, of which some are ties, and those of a judge that names a winner of each pair."""
    human = people(rng, n, rate)
    verdicts, tied = judged(rng, human, q, q), rng.random(n) < ties
    return np.where(tied, 0.5, human), np.where(tied, people(rng, n, 0.5), verdicts)


@pytest.mark.parametrize("own", [True, False])
def test_ties_of_people_do_not_bend_the_rates(own: bool) -> None:
    """A tie is half a win: 0.8 of six tenths and half of four tenths."""
    rng, truth, rates = np.random.default_rng(7), 0.6 * 0.8 + 0.4 * 0.5, []
    for _ in range(300):
        human, won = with_undecided(rng, 300, 0.8, 0.9, 0.4)
        labelled, theirs = (human[:150], won[:150]) if own else with_undecided(rng, 150, 0.5, 0.9, 0.4)
        at = np.arange(150) if own else np.arange(300, 450)
        rates.append(rogan_gladen(won, Labels(theirs, labelled, at), symmetric=not own))
    assert 0.925 <= covered(rates, truth) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(100, 60), (500, 60), (300, 150)])
@pytest.mark.parametrize("rate", [0.5, 0.75])
def test_coverage_over_many_draws(n: int, m: int, rate: float) -> None:
    rng = np.random.default_rng(6)
    for symmetric in (True, False):
        rates = [by_other_labels(rng, n, m, rate, 0.88, symmetric) for _ in range(2000)]
        assert 0.93 <= covered(rates, rate) <= 0.97
    assert 0.93 <= covered([by_own_labels(rng, n, m, rate, 0.88) for _ in range(2000)], rate) <= 0.97


def two_models(rng: np.random.Generator, n: int, m: int) -> tuple[Values, Values, Values]:
    """Verdicts on two models whose people's rates are 0.65 and 0.55 on shared prompts, and what m of the first says."""
    common = rng.random(n)
    human = np.array([(0.7 * common + 0.3 * rng.random(n) < r).astype(float) for r in (0.65, 0.55)])
    return human, np.array([judged(rng, h, 0.85, 0.85) for h in human]), rng.choice(n, m, replace=False)


def two_corrected(rng: np.random.Generator, kind: str) -> tuple[Values, Values]:
    """The rows of two models, corrected by labels of 80 of their own answers, or of 80 others."""
    human, won, at = two_models(rng, 200, 80)
    other = people(rng, 80, 0.5)
    labels = Labels(judged(rng, other, 0.85, 0.85), other, np.arange(200, 280))
    seen = np.isin(np.arange(200), at)
    if kind == "own":
        rates = [prediction_powered(w, np.where(seen, h, np.nan)) for w, h in zip(won, human, strict=True)]
    else:
        rates = [rogan_gladen(w, labels) for w in won]
    a, b = rates
    assert a is not None and b is not None
    return a.rows, b.rows


KINDS = pytest.mark.parametrize("kind", ["own", "other"])
TRUTH = float(np.subtract(*two_models(np.random.default_rng(0), 200_000, 1)[0].mean(1)))


@pytest.mark.slow
@KINDS
def test_paired_differences_of_corrected_rates_hold_the_truth(kind: str) -> None:
    rng, held = np.random.default_rng(7), 0
    for _ in range(400):
        gap = paired_difference(*two_corrected(rng, kind))
        held += gap.low <= TRUTH <= gap.high
    assert 0.925 <= held / 400 <= 0.975


@pytest.mark.slow
@KINDS
def test_the_spread_of_rows_is_that_of_paired_differences(kind: str) -> None:
    rng, held = np.random.default_rng(8), 0
    for _ in range(300):
        a, b = two_corrected(rng, kind)
        held += abs((a - b).mean() - TRUTH) <= 1.96 * (a - b).std(ddof=1) / len(a) ** 0.5
    assert 0.92 <= held / 300 <= 0.98


@pytest.mark.parametrize("q", [0.5, 0.3])
def test_a_judge_that_is_no_better_than_chance_corrects_nothing(q: float) -> None:
    rng = np.random.default_rng(9)
    human = people(rng, 60, 0.5)
    labels = Labels(judged(rng, human, q, q), human, np.arange(100, 160))
    assert no_better_than_chance(labels)
    assert rogan_gladen(people(rng, 100, 0.5), labels) is None or q == 0.5
    good = Labels(judged(rng, human, 0.9, 0.9), human, np.arange(100, 160))
    assert not no_better_than_chance(good)


def test_too_few_labels_correct_nothing() -> None:
    rng = np.random.default_rng(10)
    human, won = people(rng, 9, 0.5), people(rng, 100, 0.6)
    assert rogan_gladen(won, Labels(human, human, np.arange(9))) is None
    assert prediction_powered(won, np.where(np.arange(100) < 9, won, np.nan)) is None
    one_sided = np.ones(40)
    assert rogan_gladen(won, Labels(one_sided, one_sided, np.arange(40)), symmetric=False) is None


def test_missing_verdicts_are_missing_in_the_rows() -> None:
    rng = np.random.default_rng(11)
    won = people(rng, 100, 0.6)
    won[:5] = np.nan
    human = people(rng, 40, 0.5)
    rate = rogan_gladen(won, Labels(judged(rng, human, 0.9, 0.9), human, np.arange(40)))
    assert rate is not None and rate.estimate.n == 95 and np.isnan(rate.rows).tolist() == [True] * 5 + [False] * 95


def test_prompts_with_the_same_answer_count_as_ties() -> None:
    rng = np.random.default_rng(12)
    human = people(rng, 80, 0.8)
    rate = prediction_powered(judged(rng, human, 0.95, 0.95), np.where(np.arange(80) < 40, human, np.nan))
    assert rate is not None
    whole = with_ties(rate, np.arange(100) >= 80)
    assert whole.estimate.value == pytest.approx(0.8 * rate.estimate.value + 0.1) and whole.estimate.n == 100
    assert whole.rows[80:].tolist() == [0.5] * 20 and whole.rows.mean() == pytest.approx(whole.estimate.value)
    assert whole.estimate.low < whole.estimate.value < whole.estimate.high < rate.estimate.high
