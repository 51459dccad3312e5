"""Sweeps: what a recipe may say, which trials it makes, how they are chosen from. No model is loaded here."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from prefzoo import losses
from prefzoo.data.tokens import TokenPair
from prefzoo.data.views import Changed, Selected
from prefzoo.errors import UserError
from prefzoo.experiment import search
from prefzoo.experiment.search import Score, Trial
from prefzoo.losses import paper_grid
from prefzoo.recipe.axes import Halving, Sweep
from prefzoo.recipe.load import dump, load

HEAD = "name: tiny\nmodel: some/model\ndata: {train: pairs.jsonl}\n"


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def _read(text: str, *overrides: str) -> Any:
        path = tmp_path / "r.yaml"
        path.write_text(HEAD + text)
        return load(path, overrides)

    return _read


def names(trials: list[Trial]) -> list[str]:
    return [t.name for t in trials]


def test_a_grid_is_every_combination_with_every_seed(read: Any) -> None:
    text = "seeds: [3, 4]\nvariants: {dpo: {beta: [0.1, 0.5], train: {learning_rate: [1e-6, 1e-5]}}}"
    trials = search.expand(read(text))
    assert names(trials)[:3] == ["dpo-beta0.1-lr1e-06-s3", "dpo-beta0.1-lr1e-06-s4", "dpo-beta0.1-lr1e-05-s3"]
    assert len(trials) == 8 and trials[-1].variant.params.model_dump() == {"beta": 0.5}
    assert trials[-1].variant.train.learning_rate == 1e-5 and trials[-1].seed == 4
    assert trials[-1].variant.name == trials[-1].name and not trials[-1].variant.axes


def test_a_trial_keeps_its_name_whatever_else_is_in_the_grid(read: Any) -> None:
    few = names(search.expand(read("variants: {dpo: {beta: [0.1, 0.5]}}")))
    more = names(search.expand(read("variants: {dpo: {beta: [0.5, 0.01, 0.1]}}")))
    assert set(few) < set(more)


def test_a_common_grid_is_everyones_unless_they_have_their_own(read: Any) -> None:
    text = """\
train: {learning_rate: [1e-6, 1e-5]}
sweep: {unequal_budgets: flag}
variants: {dpo: , ipo: {train: {learning_rate: 1e-3}}, simpo: {train: {batch: [4, 8, 16]}}}
"""
    trials = search.expand(read(text))
    assert search.budgets(trials) == {"dpo": 2, "ipo": 1, "simpo": 6}
    assert [t.variant.train.learning_rate for t in trials][:3] == [1e-6, 1e-5, 1e-3]


def test_a_terms_knob_in_a_sum(read: Any) -> None:
    trials = search.expand(read("variants: {both: {loss: dpo + 0.2*sft, dpo: {beta: [0.1, 0.5]}}}"))
    assert [t.variant.params.model_dump()["dpo"]["beta"] for t in trials] == [0.1, 0.5]


def test_without_a_sweep_trials_are_the_variants(read: Any) -> None:
    plain = read("seed: 7\nvariants: {dpo: , ipo: }")
    assert not search.is_sweep(plain) and [(t.name, t.seed) for t in search.expand(plain)] == [("dpo", 7), ("ipo", 7)]
    assert search.is_sweep(read("seeds: [1, 2]\nvariants: {dpo: }"))
    one, two = (names(search.expand(read(f"seeds: {seeds}\nvariants: {{dpo: }}"))) for seeds in ("[1]", "[1, 2]"))
    assert one == ["dpo-s1"] and two == ["dpo-s1", "dpo-s2"]  # so that a seed can be added to what is trained


def test_a_resolved_sweep_loads_to_the_same(read: Any, tmp_path: Path) -> None:
    text = """\
seeds: [5, 6]
sweep: {trials: 3, early_stopping: {}}
variants: {ipo: {sweep: paper}, simpo: {beta: {log: [1, 10]}}, both: {loss: dpo + sft, dpo: {beta: [0.1, 0.5, 1.0]}}}
"""
    first = read(text)
    (tmp_path / "again.yaml").write_text(dump(first))
    again = load(tmp_path / "again.yaml")
    assert dump(again) == dump(first) and first.seed == 5
    assert names(search.expand(again)) == names(search.expand(first))


def test_a_range_is_covered_evenly_and_the_same_each_time(read: Any) -> None:
    recipe = read("sweep: {trials: 8}\nvariants: {dpo: {beta: {log: [0.001, 1]}, train: {batch: [4, 8]}}}")
    trials = search.expand(recipe)
    betas = sorted(t.values["beta"] for t in trials)
    assert len(trials) == 8 and names(trials) == names(search.expand(recipe))
    assert 0.001 <= betas[0] < 0.01 and 0.1 < betas[-1] <= 1  # the ends of a log scale are both visited
    assert {t.values["train.batch"] for t in trials} == {4, 8}


def test_ranges_without_optuna(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"variants.dpo: ranges are searched by Optuna.*pip install 'prefzoo\[sweep\]'"):
        search.expand(read("sweep: {trials: 2}\nvariants: {dpo: {beta: {log: [0.1, 1]}}}"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("variants: {dpo: {beta: [0.1, -1]}}", "r.yaml:4: variants.dpo.beta: must be greater than 0 (is -1)"),
        ("variants: {dpo: {beta: [0.1, 0.1]}}", "r.yaml:4: variants.dpo.beta: has a value twice"),
        ("variants: {dpo: {beta: [0.1]}}", "r.yaml:4: variants.dpo.beta: must be a number (is a list)"),
        ("variants: {dpo: {beta: {log: [0, 1]}}}", "variants.dpo.beta: the ends of a log range need 0 < first"),
        ("variants: {dpo: {beta: {log: 3}}}", "variants.dpo.beta: a range has one scale and two ends"),
        ("variants: {dpo: {beta: {uniform: [0.1, 1]}}}", "variants.dpo: a range needs a number of trials; add sweep:"),
        ("variants: {dpo: {betta: [0.1, 1]}}", "variants.dpo.betta: no such parameter of dpo"),
        ("variants: {dpo: {sweep: all}}", "variants.dpo.sweep: must be paper (is 'all')"),
        ("variants: {dpo: }\ntrain: {learning_rate: [1e-6, 0]}", "variants.dpo.train.learning_rate: must be greater"),
        ("variants: {dpo: }\nseeds: [1, 1]", "r.yaml:5: seeds: has a seed twice"),
        ("variants: {dpo: }\nseeds: [1, 2]\nseed: 3", "seeds: begins with 1, and seed is 3; leave out seed"),
        ("variants: {dpo: }\nseeds: 3", "seeds: must be a list (is 3)"),
        ("variants: {dpo: }\nsweep: {validation: 1.0}", "sweep.validation: must be a share of the training prompts"),
        ("variants: {dpo: }\nsweep: {trails: 3}", "sweep.trails: no such field; did you mean 'trials'?"),
        ("variants: {dpo: }\nsweep: {early_stopping: {factor: 1}}", "sweep.early_stopping.factor: must be at least 2"),
        ("variants: {dpo: }\nsweep: {unequal_budgets: no}", "sweep.unequal_budgets: must be 'refuse' or 'flag'"),
    ],
)
def test_what_is_wrong_is_told_with_place_value_and_cure(read: Any, text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read(text)
    assert says in caught.value.lines[0] and len(caught.value.lines) == 1


def test_unequal_budgets_are_refused_unless_asked_for(read: Any) -> None:
    text = "variants: {dpo: {beta: [0.1, 0.5, 1.0]}, ipo: {tau: [0.1, 0.5]}}"
    with pytest.raises(UserError, match=r"unequal tuning \(dpo 3, ipo 2 settings\).*sweep.trials: 2, or accept"):
        search.expand(read(text))
    assert search.budgets(search.expand(read(text, "sweep.trials=2"))) == {"dpo": 2, "ipo": 2}
    assert search.budgets(search.expand(read(text, "sweep.unequal_budgets=flag"))) == {"dpo": 3, "ipo": 2}


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_has_a_grid_that_it_takes_and_that_says_where_it_is_from(read: Any, name: str) -> None:
    loss = losses.get(name)
    grid = paper_grid(loss)
    assert grid.source and (grid.stated or "default grid; no published values were read in" in grid.source)
    if loss.Params.model_fields:
        assert max(len(values) for values in grid.knobs.values()) > 1
    read(f"variants: {{{name}: {{sweep: paper, train: {{learning_rate: 1e-6}}}}}}")  # every value is tried


def test_a_paper_grid_yields_to_what_a_variant_says_itself(read: Any) -> None:
    variant = read("variants: {simpo: {sweep: paper, beta: 3.0}}").variants["simpo"]
    assert variant.params.beta == 3.0 and [axis.path[-1] for axis in variant.axes] == ["gamma", "learning_rate"]
    stated = losses.get("ipo")
    assert "arXiv:2502.01237" in paper_grid(stated).source and paper_grid(stated).knobs["tau"] == stated.grid["tau"]
    assert paper_grid(losses.get("chi_po")).knobs["beta"] == (0.02, 0.1, 0.5)
    assert set(paper_grid(losses.get("dpo + 0.2*orpo")).knobs) == {"dpo.beta", "orpo.weight"}


def trial(arm: str, setting: str, seed: int) -> Trial:
    return Trial(f"{setting}-s{seed}", arm, setting, {}, seed, None)  # type: ignore[arg-type]


TRIALS = [trial(arm, f"{arm}-{s}", seed) for arm in ("a", "b") for s in ("x", "y", "z") for seed in (0, 1)]


def test_the_choice_is_the_best_mean_over_seeds_and_ties_go_to_who_moved_less() -> None:
    scores = {t.name: Score(0.5, 1.0) for t in TRIALS}
    scores["a-y-s0"], scores["a-y-s1"] = Score(0.9, 9.0), Score(0.3, 9.0)  # mean 0.6
    scores["b-z-s1"] = Score(0.5, 0.5)
    assert search.choose(TRIALS, scores) == {"a": "a-y", "b": "b-z"}
    del scores["a-y-s1"]  # a setting with a seed missing is no candidate
    assert search.choose(TRIALS, scores)["a"] == "a-x"
    assert search.choose(TRIALS, {"b-x-s0": Score(1, 1), "b-x-s1": Score(1, 1)}) == {"b": "b-x"}


def test_early_stopping_leaves_every_variant_its_share() -> None:
    sweep = Sweep(early_stopping=Halving(factor=3, rungs=2))
    assert search.rungs(sweep, 90) == [10, 30] and search.rungs(sweep, 1) == [] and search.rungs(Sweep(), 90) == []
    scores = {t.name: Score(0.9 if t.arm == "a" else 0.1, 1.0) for t in TRIALS}
    scores["b-y-s0"] = scores["b-y-s1"] = Score(0.2, 1.0)
    kept = search.survivors(TRIALS, scores, 3)
    assert names(kept) == ["a-x-s0", "a-x-s1", "b-y-s0", "b-y-s1"]


def test_the_validation_split_never_shares_a_prompt_with_training() -> None:
    pairs = [TokenPair([i // 3], [10 + i], [50 + i], i) for i in range(30)]  # three pairs a prompt
    train, held = search.split_off(pairs, 0.2)
    assert len(held) == 6 and len(train) == 24 and not {p.prompt[0] for p in train} & {p.prompt[0] for p in held}
    again = search.split_off(pairs[::-1], 0.2)[1]
    assert {p.row for p in again} == {p.row for p in held}  # by content, not by place
    with pytest.raises(UserError, match="sweep.validation: 0.9 of 1 different prompts leaves none to train on"):
        search.split_off(pairs[:3], 0.9)


def test_a_split_of_a_data_set_that_is_larger_than_memory_copies_none_of_it() -> None:
    pairs = [TokenPair([i // 3], [10 + i], [50 + i], i) for i in range(30)]
    large = Changed(pairs, lambda pair: pair)
    parts = search.split_off(large, 0.2)
    assert all(isinstance(part, Selected) for part in parts)
    assert [list(part) for part in parts] == [*search.split_off(pairs, 0.2)]


def test_a_score_counts_ties_half() -> None:
    assert search.score([1.0, -1.0, 0.0, 4.0]) == Score(0.625, 1.5)
