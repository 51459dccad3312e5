"""A board over seeds: means by hand, intervals that know of both, what one seed cannot say."""

from __future__ import annotations

import numpy as np
import pytest

from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.multi_seed import over_seeds, spread
from prefzoo.evals.metrics.builtin.preference import PREFERENCE_ACCURACY
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats.inference import seeded_mean

ARMS = {"a": ["a-s0", "a-s1"], "b": ["b-s0", "b-s1"]}


def measured(margins: list[float], preferences: list[float | None] | None = None, suite: float = 0.5) -> Measured:
    n = len(margins)
    return Measured(
        margins, [], [3] * n, [True] * n, [0.0] * n, [f"answer {i}" for i in range(n)],
        {"sums": {"value": suite, "stderr": 0.05, "n": 100}}, preferences or [], "own", "",
    )  # fmt: skip


def board(models: dict[str, Measured]) -> leaderboard.Leaderboard:
    costs = {name: {"seconds": 10.0 + i} for i, name in enumerate(models) if name != "base"}
    seeds = {variant: [n for n in names if n in models] for variant, names in ARMS.items()}
    return over_seeds(leaderboard.build(models, costs), models, seeds)


def everyone() -> dict[str, Measured]:
    return {
        "base": measured([0.0] * 8),
        "a-s0": measured([1, 1, 1, 1, 1, 1, 1, -1], suite=0.4),
        "a-s1": measured([1, 1, 1, 1, 1, 1, -1, -1], suite=0.6),
        "b-s0": measured([1, -1, -1, -1, 1, -1, -1, -1]),
        "b-s1": measured([1, 1, -1, -1, 1, -1, -1, -1]),
    }


def test_a_row_per_variant_and_one_per_seed_behind_it() -> None:
    ranked = board(everyone())
    assert ranked.order == ["a", "base", "b"] and ranked.ranks["a"] == 1
    long = ranked.long.set_index(["variant", "metric"]).value
    assert long["a", "preference_accuracy"] == pytest.approx((7 / 8 + 6 / 8) / 2)
    assert long["a-s0", "preference_accuracy"] == pytest.approx(7 / 8)
    assert long["a", "sums"] == pytest.approx(0.5) and long["a", "train_seconds"] == pytest.approx(11.5)
    assert "Intervals span seeds and prompts" in ranked.power and "| a |" in ranked.markdown()


def test_the_interval_is_over_seeds_and_prompts_and_a_share_stays_one() -> None:
    models = everyone()
    row = board(models).long.set_index(["variant", "metric"]).loc[("a", "preference_accuracy")]
    values = np.stack([PREFERENCE_ACCURACY.values(models[n], models["base"]) for n in ARMS["a"]])
    assert row.stderr == pytest.approx(seeded_mean(values).stderr) and row.high <= 1
    suite = board(models).long.set_index(["variant", "metric"]).loc[("a", "sums")]
    # se of either seed, and the variance of 0.4 and 0.6 over two seeds
    assert suite.stderr == pytest.approx(np.sqrt(0.4 * 0.6 / 100 + 0.02 / 2), rel=0.05)


def test_spreads_apart() -> None:
    models = everyone()
    both = spread(models, ARMS["a"], "preference_accuracy")
    assert both.seeds == pytest.approx(np.std([7 / 8, 6 / 8], ddof=1))
    assert both.prompts == pytest.approx(np.std([1, 1, 1, 1, 1, 1, 0.5, 0], ddof=1) / np.sqrt(8))
    assert np.isnan(spread(models, ["a-s0"], "preference_accuracy").seeds)


def test_a_missing_verdict_takes_its_prompt_out_for_all_seeds() -> None:
    models = {
        "base": measured([0.0] * 4),
        "a-s0": measured([1.0] * 4, [2.0, None, 1.0, 2.0]),
        "a-s1": measured([1.0] * 4, [2.0, 2.0, 1.0, 1.0]),
        "b-s0": measured([1.0] * 4, [1.0, 1.0, 1.0, 1.0]),
    }
    ranked = board(models)
    row = ranked.long.set_index(["variant", "metric"]).loc[("a", "win_rate")]
    assert ranked.primary == "win_rate" and row.n == 3 and row.value == pytest.approx((1 + 0 + 0.5) / 3)


def test_only_a_share_is_kept_in_zero_to_one() -> None:
    """Margins in nats may be between 0 and 1 on every pair; their interval may reach past either end."""
    rng = np.random.default_rng(0)
    models = {"base": measured([0.0] * 4)} | {
        n: measured(rng.random(4).tolist()) for names in ARMS.values() for n in names
    }
    row = board(models).long.set_index(["variant", "metric"]).loc[("a", "preference_margin")]
    assert row.low < 0 or row.high > 1
    share = board(models).long.set_index(["variant", "metric"]).loc[("a", "preference_accuracy")]
    assert share.low >= 0 and share.high <= 1
