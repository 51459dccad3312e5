"""A plan of prompts and seeds shows, four times in five, what it was made for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from prefzoo.evals.boards.costs import RunCost, rounded, run_cost
from prefzoo.evals.stats.inference import detectable, seeded_difference
from prefzoo.evals.stats.planning import plan, prompts_for, rounded_up, spread_of
from prefzoo.runtime import measuring_time, run_folders


def drawn(rng: np.random.Generator, seeds: int, prompts: int, mean: float, seed_spread: float) -> np.ndarray:
    """Return (seeds, prompts) wins of a variant whose seeds differ."""
    rates = np.clip(mean + rng.normal(0, seed_spread, (seeds, 1)), 0, 1)
    return (rng.random((seeds, prompts)) < rates).astype(float)


def test_as_many_prompts_as_planned_show_the_difference_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    a, b = (drawn(rng, 1, 400, 0.6, 0.0) for _ in "ab")
    planned = plan({"a": a, "b": b})
    assert planned is not None and planned.difference == 0.05 and not planned.seeds_known
    n = planned.prompts
    spread = float((a - b).std(ddof=1))
    assert detectable(spread, n) <= 0.05 < detectable(spread, round(0.93 * n))
    gaps = rng.normal(0.05, spread, (400, n))
    assert np.mean(ttest_1samp(gaps, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.06)


def test_seeds_and_prompts_as_planned_show_the_difference_four_times_in_five() -> None:
    rng = np.random.default_rng(1)
    a, b = (drawn(rng, 12, 300, 0.6, 0.03) for _ in "ab")
    spread = spread_of(a, b)
    assert spread is not None and spread.seeds == pytest.approx(2 * 0.03**2, rel=0.7)
    seeds = 15
    prompts = prompts_for(spread, seeds, 0.05, 1)
    assert prompts is not None and prompts_for(spread, 1, 0.02, 1) is None  # one seed varies by more than that
    between = np.sqrt((spread.seeds or 0.0) / 2)
    tested = [
        seeded_difference(drawn(rng, seeds, prompts, 0.625, between), drawn(rng, seeds, prompts, 0.575, between)).p
        for _ in range(200)
    ]
    assert np.mean(np.array(tested) < 0.05) == pytest.approx(0.8, abs=0.1)


def test_a_run_that_sees_five_points_is_planned_for_two() -> None:
    rng = np.random.default_rng(2)
    values = {name: drawn(rng, 1, 4000, 0.6, 0.0) for name in "ab"}
    planned = plan(values)
    assert planned is not None and planned.difference == 0.02
    assert plan({"a": values["a"], "b": values["a"]}) is None and plan({"a": values["a"]}) is None


@pytest.mark.slow
def test_dear_trainings_ask_for_fewer_seeds_and_more_prompts() -> None:
    rng = np.random.default_rng(3)
    values = {name: drawn(rng, 3, 200, 0.6, 0.01) for name in "ab"}
    dear = plan(values, RunCost(10_000.0, 0.1).seconds)
    cheap = plan(values, RunCost(1.0, 0.1).seconds)
    assert dear is not None and cheap is not None and dear.seeds_known
    assert dear.seeds < cheap.seeds and dear.prompts > cheap.prompts


def test_the_cost_of_a_plan_counts_every_seed_and_every_prompt() -> None:
    measured = {"measuring answers": 20.0, "rows answers": 10.0, "measuring pairs": 30.0, "rows pairs": 60.0}
    costs = {"a-s0": {"seconds": 100.0} | measured, "a-s1": {"seconds": 300.0} | measured, "b-s0": {"seconds": 50.0}}
    arms = {"a-s0": "a", "a-s1": "a", "b-s0": "b"}
    by_prompts, by_pairs = (run_cost(costs, arms, rows) for rows in ("prompts", "pairs"))
    assert by_prompts == RunCost(200 + 30 + 50, 2.0)  # a's seeds count once, its pairs do not grow with the prompts
    assert by_pairs == RunCost(200 + 20 + 50, 0.5)
    assert by_prompts is not None and by_prompts.seconds(100, 3) == 3 * (280 + 2 * 100)
    assert by_prompts.words(100, 3) == "about 24 minutes" and run_cost({}, {}, "prompts") is None
    assert RunCost(3600.0).words(100, 1) == "about 1 hour of training, answers not counted"


def test_what_is_cached_does_not_hide_how_long_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 30.0, 100.0, 100.1, 200.0, 260.0, 300.0, 301.0])
    monkeypatch.setattr(measuring_time, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for rows in (10, 10, 10, 0):
        with measuring_time.timed(tmp_path, "answers", rows):
            pass
    assert measuring_time.measuring_costs(tmp_path) == {"measuring answers": 60.0, "rows answers": 10.0}
    (tmp_path / run_folders.MEASURING).write_text("[1]")
    assert measuring_time.measuring_costs(tmp_path) == {}


@pytest.mark.parametrize(
    ("seconds", "words"), [(20, "1 minute"), (900, "15 minutes"), (5400, "1.5 hours"), (3.6e6, "1,000 hours")]
)
def test_durations_are_rounded(seconds: float, words: str) -> None:
    assert rounded(seconds) == words


@pytest.mark.parametrize(("number", "up"), [(7, 7), (98, 98), (101, 110), (1874, 1900), (25_001, 26_000)])
def test_numbers_are_rounded_up(number: int, up: int) -> None:
    assert rounded_up(number) == up
