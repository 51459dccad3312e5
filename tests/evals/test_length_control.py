"""Length control: laws, alpaca-eval's own code as oracle, and known truth recovered from simulated pools."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pools import Pool, annotate, simulate
from scipy.stats import spearmanr

from prefzoo.evals.boards.annotated import board
from prefzoo.evals.judges.alpaca_code import alpaca_eval_imported
from prefzoo.evals.judges.annotations import Annotations, preferences, read
from prefzoo.evals.stats.difficulty import Gamed, from_others, from_pool, read_gamed
from prefzoo.evals.stats.glm import NewtonFit, Rows
from prefzoo.evals.stats.intervals import Values
from prefzoo.evals.stats.length_control import instructions, length_controlled, length_term


@pytest.fixture(scope="module")
def pool() -> Pool:
    return simulate(models=12)


def gamed_of(pool: Pool, folder: Path) -> list[Gamed]:
    path, order = folder / "gamed.csv", instructions(pool.models)
    pool.gamed.to_csv(path, index=False)
    return read_gamed(path, order, order)


def values(pool: list[Annotations], *args: object, resamples: int = 2) -> Values:
    rates = length_controlled(pool, *args, resamples=resamples)  # type: ignore[arg-type]
    return np.array([rates[a.model].value for a in pool])


def by_alpaca(pool: Pool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Values:
    """alpaca-eval 0.6.6's own fit, on our file in place of its download."""
    gamed_of(pool, folder)
    with alpaca_eval_imported():
        from alpaca_eval.metrics import glm_winrate

        monkeypatch.setattr(glm_winrate, "hf_hub_download", lambda **_: str(folder / "gamed.csv"))
        return np.array([
            glm_winrate.get_length_controlled_winrate(
                a.rows.copy(), save_weights_dir=None, is_warn_extreme_changes=False
            )["length_controlled_winrate"]
            for a in pool.models
        ])  # fmt: skip


@pytest.mark.slow
def test_alpaca_evals_own_numbers(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = by_alpaca(pool, tmp_path, monkeypatch)
    given = values(pool.models, pool.difficulty, gamed_of(pool, tmp_path))
    assert np.abs(given - theirs).max() < 0.1
    alone = values(pool.models)
    assert (np.abs(alone - theirs) < 2.5).mean() >= 0.9 and spearmanr(alone, theirs).statistic >= 0.97
    regularised = values(pool.models, None, gamed_of(pool, tmp_path))
    assert np.abs(regularised - theirs).mean() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_truth_is_recovered_within_its_standard_error(seed: int) -> None:
    simulated = simulate(seed=seed)
    rates = length_controlled(simulated.models)
    error = np.array([rates[a.model].value for a in simulated.models]) - simulated.truth
    stderr = np.array([rates[a.model].stderr for a in simulated.models])
    assert np.abs(error).mean() < 2 and spearmanr(error + simulated.truth, simulated.truth).statistic > 0.97
    assert (np.abs(error) < 1.96 * stderr).mean() >= 0.8  # 20 models: 0.95 less two standard deviations


@pytest.mark.slow
@pytest.mark.parametrize("models", [3, 6])
def test_intervals_cover(models: int) -> None:
    """Of 1 000 intervals each, for win rates over all prompts that could have been drawn."""
    held = []
    for seed in range(1000 // models):
        simulated = simulate(models=models, n=200, seed=seed)
        rates = length_controlled(simulated.models, simulated.difficulty if seed % 2 else None, seed=seed)
        of = [rates[a.model] for a in simulated.models]
        held += [one.low <= truth <= one.high for one, truth in zip(of, simulated.population, strict=True)]
    assert 0.93 <= np.mean(held) <= 0.97


def test_difficulty_is_recovered_from_the_pool() -> None:
    pool = simulate(models=20)
    order = instructions(pool.models)
    won = np.stack([a.rows["preference"].to_numpy(dtype=float) - 1 for a in pool.models])
    difficulties = from_pool(np.zeros_like(won), won)
    assert np.corrcoef(difficulties, pool.difficulty.reindex(order))[0, 1] > 0.7 and abs(difficulties.mean()) < 1e-9


@pytest.fixture(scope="module")
def small() -> Pool:
    return simulate(models=5, n=200, seed=3)


def both_ways(small: Pool, folder: Path) -> list[tuple[object, ...]]:
    return [(), (small.difficulty,), (small.difficulty, gamed_of(small, folder))]


@pytest.mark.slow
def test_shuffled_rows_change_nothing(small: Pool, tmp_path: Path) -> None:
    mixed = [replace(a, rows=a.rows.sample(frac=1, random_state=i)) for i, a in enumerate(small.models)]
    for way in both_ways(small, tmp_path):
        assert values(mixed, *way, resamples=9) == pytest.approx(values(small.models, *way, resamples=9), abs=1e-6)
    one = length_controlled(small.models, resamples=9)["m1"].stderr
    assert length_controlled(mixed, resamples=9)["m1"].stderr == pytest.approx(one, abs=1e-6)


def swapped(a: Annotations) -> Annotations:
    rows = a.rows.assign(preference=3 - a.rows["preference"], output_1=a.rows["output_2"], output_2=a.rows["output_1"])
    return replace(a, rows=rows)


def test_swapped_roles_give_the_rest_of_a_hundred(small: Pool) -> None:
    turned = [swapped(a) for a in small.models]
    for way in ((), (small.difficulty,)):
        assert values(turned, *way) == pytest.approx(100 - values(small.models, *way), abs=1e-4)
    alone = values(small.models[:1], small.difficulty)  # the published fit, without gamed baselines
    assert values(turned[:1], small.difficulty) == pytest.approx(100 - alone, abs=0.01)


@pytest.mark.slow
def test_a_model_against_itself_gives_fifty(small: Pool, tmp_path: Path) -> None:
    same = small.models[0].rows.assign(output_2=small.models[0].rows["output_1"], preference=1.5, generator_2="itself")
    pool = [*small.models, Annotations("itself", "base", "simulated", same)]
    for way in both_ways(small, tmp_path):
        assert values(pool, *way)[-1] == pytest.approx(50, abs=1e-6 if len(way) < 2 else 0.5)


def test_constant_outputs_give_a_number_and_a_warning(small: Pool) -> None:
    base = [len(text) for text in small.models[0].rows["output_1"]]
    n = len(base)
    tricks = [
        annotate("null", [2.0] * n, base, [7] * n),  # one text that always wins
        annotate("lost", [1.0] * n, base, [7] * n),
        annotate("plus", [1.0, 2.0] * (n // 2), base, [b + 10 for b in base]),
        annotate("void", [None] * n, base, base),
    ]
    rates = length_controlled([*small.models, *tricks], resamples=20)
    assert rates["null"].value > 90 and rates["lost"].value < 10 and 40 < rates["plus"].value < 60
    for name in ("null", "lost"):
        assert rates[name].warnings[0] == f"the same answer to {n} of {n} prompts"
    assert "longer by -10 characters: length is not controlled" in rates["plus"].warnings[0]
    assert np.isnan(rates["void"].value) and rates["void"].warnings == ("no preference in [1, 2]",)
    assert all(np.isfinite([f.value, f.stderr]).all() for name, f in rates.items() if name != "void")


def test_a_model_without_a_length_term_of_its_own_takes_the_pools(small: Pool) -> None:
    """Terse answers that win only where the baseline is terse too: w and b cannot be told apart by their rows."""
    base = small.models[0].rows["output_1"].str.len().to_numpy()
    also_short = base <= np.sort(base)[len(base) // 20]
    terse = annotate("terse", np.where(also_short, 1.9, 1.02), base.tolist(), [60] * len(base))
    rates = length_controlled([*small.models, terse], resamples=20)
    alone = length_controlled(small.models, resamples=20)
    assert rates["terse"].value < 40  # its raw win rate is 7; a length term of its own makes it 88
    for a in small.models:
        assert abs(rates[a.model].value - alone[a.model].value) < 8, a.model
        assert rates[a.model].low < alone[a.model].value < rates[a.model].high


RESULTS = os.environ.get("PREFZOO_ALPACA_RESULTS", "")
BOARD = "leaderboards/data_AlpacaEval_2/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"


@pytest.mark.slow
@pytest.mark.skipif(
    not RESULTS, reason="PREFZOO_ALPACA_RESULTS names no folder `results` of github.com/tatsu-lab/alpaca_eval"
)
def test_published_rates() -> None:
    """From the pool alone: 95% of AlpacaEval's values within 2.5 points, and in our intervals."""
    files = sorted(Path(RESULTS).glob("*/weighted_alpaca_eval_gpt4_turbo/annotations.json"))
    board = pd.read_csv(Path(str(find_spec("alpaca_eval").origin)).parent / BOARD, index_col=0)  # type: ignore[union-attr]
    read_in = [a for file in files for a in read([file])]
    pool = [
        replace(a, model=file.parts[-3], rows=a.rows.drop_duplicates("instruction"))
        for a, file in zip(read_in, files, strict=True)
        if file.parts[-3] in board.index.difference([a.baseline])
    ]
    rates = length_controlled(pool, resamples=100)
    published = np.array([board.loc[a.model, "length_controlled_winrate"] for a in pool])
    error = np.array([rates[a.model].value for a in pool]) - published
    inside = [rates[a.model].low <= lc <= rates[a.model].high for a, lc in zip(pool, published, strict=True)]
    assert (np.abs(error) < 2.5).mean() >= 0.9 and np.median(np.abs(error)) < 0.5 and np.abs(error).max() < 5
    assert np.mean(inside) >= 0.95


@pytest.mark.slow
def test_what_a_row_says_about_its_difficulties(small: Pool, tmp_path: Path) -> None:
    gamed = gamed_of(small, tmp_path)
    cases = {
        "from a pool of 5, length term pooled": (small.models,),
        "from a pool of 5, 2 gamed baselines": (small.models, None, gamed),
        "given, 2 gamed baselines": (small.models, small.difficulty, gamed),
        "given, length term pooled": (small.models, small.difficulty),
        "given": (small.models[:1], small.difficulty),
        "none: a pool of one": (small.models[:1],),
    }
    for says, way in cases.items():
        assert length_controlled(*way, resamples=2)["m0"].difficulty == says  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_file_with_both_is_used_for_both_and_numbers_are_places(small: Pool, tmp_path: Path) -> None:
    gamed = gamed_of(small, tmp_path)
    ranked = board(small.models, difficulties=tmp_path / "gamed.csv")
    assert set(ranked["difficulty"]) == {"given, 2 gamed baselines"}
    ours = length_controlled(small.models, small.difficulty, gamed)
    assert ranked.loc["m2", "length_controlled_winrate"] == pytest.approx(ours["m2"].value)
    mixed = [replace(small.models[0], rows=small.models[0].rows[::-1].reset_index(drop=True)), *small.models[1:]]
    order = tmp_path / "order.json"
    pd.Series(small.models[1].rows["instruction"]).to_json(order, orient="values")
    again = board(mixed, difficulties=tmp_path / "gamed.csv", order=order)
    assert again.loc["m2", "length_controlled_winrate"] == pytest.approx(ours["m2"].value)


def test_fits_that_start_near_their_end_end_where_others_do(pool: Pool) -> None:
    order = instructions(pool.models)
    lengths = np.stack([length_term(a, order) for a in pool.models])
    won = np.stack([preferences(a.rows) for a in pool.models])  # the rows are in this order
    others = from_others(lengths, won)
    assert np.allclose(others[3], from_pool(np.delete(lengths, 3, 0), np.delete(won, 3, 0)), atol=1e-6)
    rows, ones = Rows(lengths[0], others[0], won[0]), np.ones((1, len(order)))
    again, cold = NewtonFit(rows, None), NewtonFit(rows, None)
    cold._start = np.zeros(3)  # as if nothing were known
    counts = np.random.default_rng(0).multinomial(len(order), ones[0] / len(order), size=5).astype(float)
    assert np.allclose(again.weights(counts), cold.weights(counts), atol=1e-8)
    assert np.allclose(again.weights(ones), cold.weights(ones), atol=1e-8)
