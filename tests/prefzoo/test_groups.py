"""Which variants and trials train together."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from test_multi_lora import LORA, lora_job

from prefzoo.engine.base_model import Base
from prefzoo.errors import UserError
from prefzoo.experiment.stages import train
from prefzoo.experiment.stages.stage import Done
from prefzoo.training.groups import group_trials
from prefzoo.training.job import Job


def named(model: Any, **variants: dict[str, Any]) -> dict[str, Job]:
    return {name: lora_job(model, "sft", **{"side_by_side": "on", **own}) for name, own in variants.items()}


def test_who_goes_with_whom(tiny_model: Any) -> None:
    jobs = named(
        tiny_model, a={}, b={"learning_rate": 1e-4, "warmup": 0.0}, other={"batch": 2}, full={"lora": None},
        off={"side_by_side": "off"}, c={}, four={"lora": {**LORA, "quantize": "4bit"}},
        rank={"lora": {**LORA, "rank": 3, "targets": ["q_proj"]}}, alpha={"lora": {**LORA, "alpha": 9.0}},
        drops={"dropout": "model"},
    )  # fmt: skip
    groups, notes = group_trials(jobs, "cpu", 1)
    assert groups == [["a", "b", "c", "alpha"], ["other"], ["full"], ["off"], ["four"], ["rank"], ["drops"]]
    assert notes == [
        "other: train.side_by_side: not the same train.batch as a's; trained alone",
        "full: train.side_by_side: needs train.lora; trained alone",
        "four: train.side_by_side: does not support quantised weights; trained alone",
        "rank: train.side_by_side: not the same train.lora.rank, train.lora.targets as a's; trained alone",
        "drops: train.side_by_side: does not support the model's own dropout (train.dropout: model), which would "
        "differ from that alone; trained alone",
    ]
    assert group_trials(named(tiny_model, a={}, b={}), "cpu", 2) == (
        [["a"], ["b"]], [f"{n}: train.side_by_side: is for one process; trained alone" for n in "ab"],
    )  # fmt: skip


@pytest.mark.slow
def test_coupled_rows_go_apart_where_they_are_scored_twice(tiny_model: Any) -> None:
    """The others would be scored twice with them."""
    names = ("dpo", "kto", "aot", "ipo")
    for settings, expected in (({}, [[*names]]), ({"micro_batch": 2}, [["dpo", "ipo"], ["kto", "aot"]])):
        jobs = {name: lora_job(tiny_model, name, side_by_side="on", **settings) for name in names}
        assert group_trials(jobs, "cpu", 1) == (expected, [])


def test_who_is_left_over_is_told(tiny_model: Any) -> None:
    jobs = {name: lora_job(tiny_model, name, side_by_side="on", micro_batch=2) for name in ("dpo", "kto", "ipo")}
    line = "kto: train.side_by_side: one of kto and dpo couples the rows of a step, which has several passes"
    assert group_trials(jobs, "cpu", 1) == ([["dpo", "ipo"], ["kto"]], [f"{line}; trained alone"])
    longest = max(pair.total_tokens for pair in jobs["dpo"].pairs)
    three = named(tiny_model, **{n: {"tokens": 2 * longest} for n in "abc"})
    line = "c: train.side_by_side: the others fill the tokens of a pass (train.tokens); trained alone"
    assert group_trials(three, "cpu", 1) == ([["a", "b"], ["c"]], [line])
    assert group_trials(named(tiny_model, a={}), "cpu", 1) == ([["a"]], [])


def test_auto_takes_as_many_as_have_whole_steps_in_a_pass(tiny_model: Any) -> None:
    jobs = named(tiny_model, **{n: {"side_by_side": "auto"} for n in "abcde"})
    assert group_trials(jobs, "cuda", 1) == ([["a", "b", "c", "d", "e"]], [])
    longest = max(
        sum(len(p.prompt + p.chosen + p.rejected) for p in (jobs["a"].pairs[i] for i in s)) for s in jobs["a"].steps
    )
    small = named(tiny_model, **{n: {"side_by_side": "auto", "tokens": 2 * longest} for n in "abcde"})
    assert group_trials(small, "cpu", 1) == ([["a", "b"], ["c", "d"], ["e"]], [])
    tight = named(tiny_model, **{n: {"side_by_side": "auto", "tokens": 2 * longest - 1} for n in "ab"})
    assert group_trials(tight, "cpu", 1) == ([["a"], ["b"]], [])


def test_on_a_gpu_auto_takes_as_many_as_have_a_pair_in_a_pass(tiny_model: Any) -> None:
    """There small passes are slow alone; but rows that couple would be scored twice in several of them."""
    longest = max(p.total_tokens for p in lora_job(tiny_model, "sft").pairs)
    variants = {"side_by_side": "auto", "tokens": 3 * longest}
    jobs = {n: lora_job(tiny_model, n, **variants) for n in ("dpo", "kto", "ipo", "aot", "sft", "simpo")}
    assert group_trials(jobs, "cuda", 1) == ([["dpo", "ipo", "sft"], ["kto"], ["aot"], ["simpo"]], [])
    assert group_trials(jobs, "cpu", 1) == ([[name] for name in jobs], [])
    few = named(tiny_model, **{n: {"side_by_side": "auto", "tokens": 2 * longest - 1} for n in "ab"})
    assert group_trials(few, "cuda", 1) == ([["a"], ["b"]], [])


def test_dropout_in_several_passes_is_refused(tiny_model: Any) -> None:
    jobs = named(tiny_model, a={"lora": {**LORA, "dropout": 0.1}, "tokens": 60}, b={})
    says = "two variants' steps do not fit in one pass, and dropout would differ in several; raise train.tokens"
    unlike = "not the same train.lora.dropout, train.tokens as a's"
    notes = [f"{name}: train.side_by_side: {reason}; trained alone" for name, reason in (("a", says), ("b", unlike))]
    assert group_trials(jobs, "cpu", 1) == ([["a"], ["b"]], notes)


def test_trials_of_different_seeds_see_different_rows(tiny_model: Any) -> None:
    jobs = named(tiny_model, a={}, b={}, c={"learning_rate": 1e-4}, d={})
    jobs = {name: replace(job, seed=int(name in "bd")) for name, job in jobs.items()}
    assert jobs["a"].steps != jobs["b"].steps
    assert group_trials(jobs, "cpu", 1) == ([["a", "c"], ["b", "d"]], [])


MEMORY = MemoryError("out of memory at step 1 with one pair at a time")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "error", "groups", "line"),
    [
        ("abcde", MEMORY, ["abcde", "ab", "cde"], "out of memory; in two groups instead"),
        ("ab", MEMORY, ["ab", "a", "b"], "out of memory; one after another instead"),
        ("abc", UserError("no"), ["abc", *"abc"], "no; one after another instead"),
    ],
)
def test_a_group_that_does_not_fit_trains_in_two_halves(
    names: str, error: Exception, groups: list[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer variants share a pass then; whatever else goes wrong would in a half, too."""
    tried: list[str] = []

    def together(experiment: Any, group: Any, model: Any, until: Any) -> dict[str, Any]:
        tried.append("".join(t.name for t in group))
        if len(group) == len(names):
            raise error
        return {t.name: Done() for t in group}

    def one(experiment: Any, training: Any, until: Any) -> Done:
        tried.append(training.name)
        return Done()

    monkeypatch.setattr(train, "make_room", lambda *_: None)
    monkeypatch.setattr(train, "_policy", lambda *_: None)
    monkeypatch.setattr(train, "why_not_groupable", lambda _: "")
    monkeypatch.setattr(train, "_train_together", together)
    monkeypatch.setattr(train, "_train_or_record", one)
    lines: list[str] = []
    console = SimpleNamespace(print=lambda text, **_: lines.append(text))
    experiment: Any = SimpleNamespace(console=console, base=Base(lambda: None))
    group: Any = [SimpleNamespace(name=name, trial=None) for name in names]
    assert list(train._train(experiment, group, None)) == [*names] and tried == groups
    assert lines == [f"{', '.join(names)}: cannot train side by side: {line}"]
