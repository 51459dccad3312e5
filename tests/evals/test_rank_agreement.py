"""Kendall's tau between two orders of variants: scipy's value, an interval that knows of prompts and seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sample_runs import make_run, share
from scipy.stats import kendalltau

from prefzoo.evals.boards.comparison import compare
from prefzoo.evals.boards.tables import text
from prefzoo.evals.stats.rank_agreement import rank_agreement

RNG = np.random.default_rng(3)
LEVELS = {name: 0.2 + 0.15 * i for i, name in enumerate("abcde")}


def drawn(levels: dict[str, float], seeds: int = 2, n: int = 200) -> dict[str, np.ndarray]:
    return {name: (np.random.default_rng(i).random((seeds, n)) < p) * 1.0 for i, (name, p) in enumerate(levels.items())}


def test_the_value_is_scipys_with_ties_too() -> None:
    for _ in range(20):
        a, b = RNG.integers(0, 4, (2, 6)).astype(float)
        one, other = ({str(i): np.array([[v, v, v]]) for i, v in enumerate(side)} for side in (a, b))
        expected = kendalltau(a, b).statistic
        assert rank_agreement(one, other).value == pytest.approx(expected, nan_ok=True)


def test_the_same_order_is_one_and_the_reverse_minus_one() -> None:
    one = drawn(LEVELS)
    reverse = dict(zip(one, reversed(one.values()), strict=True))
    same, turned = rank_agreement(one, one), rank_agreement(one, reverse)
    assert (same.value, turned.value) == (1.0, -1.0) and same.n == 5
    assert same.low > 0.5 and turned.high < -0.5


@pytest.mark.slow
def test_few_prompts_and_differing_seeds_widen_the_interval() -> None:
    many, few = (rank_agreement(drawn(LEVELS, n=n), drawn(LEVELS, n=n)) for n in (2000, 20))
    assert many.high - many.low < few.high - few.low
    steady = drawn(LEVELS, n=200)
    seeds = {name: np.concatenate([v * 0, v * 0 + 1]) for name, v in steady.items()}
    spread = rank_agreement(steady, {name: np.concatenate([seeds[name], v]) for name, v in steady.items()})
    calm = rank_agreement(steady, steady)
    assert spread.high - spread.low > calm.high - calm.low


def test_values_that_are_missing_and_too_few_variants() -> None:
    one = drawn(LEVELS)
    gap = {**one, "a": np.where(np.arange(200) < 50, np.nan, one["a"])}
    cut = {name: v[:, 50:] for name, v in one.items()}
    assert rank_agreement(gap, gap).value == rank_agreement(cut, cut).value
    assert np.isnan(rank_agreement({k: one[k] for k in "ab"}, one).value)
    flat = {name: np.ones((1, 9)) for name in "abc"}
    assert np.isnan(rank_agreement(flat, flat).value)


@pytest.mark.slow
def test_compare_reports_how_far_two_runs_agree(tmp_path: Path) -> None:
    first = make_run(tmp_path / "plain", {"dpo": share(30), "ipo": share(20), "simpo": share(10)})
    second = make_run(tmp_path / "tuned", {"dpo": share(25), "ipo": share(15), "simpo": share(35)}, gamma=2.0)
    comparison = compare([first, second])
    (agreement,) = comparison.agreements
    assert agreement.tau == pytest.approx(kendalltau([30, 20, 10], [25, 15, 35]).statistic)
    assert agreement.moved == {"dpo": -1, "ipo": -1, "simpo": 2} and agreement.low <= agreement.tau <= agreement.high
    (line,) = [note for note in comparison.notes if "Kendall" in note]
    assert "The orders of 3 variants in plain and tuned agree with Kendall's tau -0.33" in line
    assert line.endswith("Places gained in tuned: simpo +2, dpo -1, ipo -1.")
    assert json.loads(text(comparison, "json"))["agreements"][0]["tau"] == pytest.approx(agreement.tau)
    assert line.split(" (")[0] in text(comparison, "md")


@pytest.mark.slow
def test_no_agreement_is_reported_for_one_run_or_other_prompts(tmp_path: Path) -> None:
    variants = {"dpo": share(30), "ipo": share(20), "simpo": share(10)}
    first, other = make_run(tmp_path / "a", variants), make_run(tmp_path / "b", variants, prompts="q.jsonl")
    assert compare([first]).agreements == () == compare([first, other], unranked=True).agreements
