"""Which variants and trials train together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from test_multi_lora import LORA, lora_job

from prefzoo.training.groups import group_trials
from prefzoo.training.job import Job


def named(model: Any, **variants: dict[str, Any]) -> dict[str, Job]:
    return {name: lora_job(model, "sft", **{"side_by_side": "on", **own}) for name, own in variants.items()}


def test_who_goes_with_whom(tiny_model: Any) -> None:
    jobs = named(
        tiny_model, a={}, b={"learning_rate": 1e-4, "warmup": 0.0}, other={"batch": 2}, full={"lora": None},
        off={"side_by_side": "off"}, c={}, four={"lora": {**LORA, "quantize": "4bit"}},
        rank={"lora": {**LORA, "rank": 3}},
    )  # fmt: skip
    groups, notes = group_trials(jobs, "cpu", 1)
    assert groups == [["a", "b", "c"], ["other"], ["full"], ["off"], ["four"], ["rank"]]
    assert notes == [
        "full: train.side_by_side: needs train.lora; trained alone",
        "four: train.side_by_side: does not know quantised weights; trained alone",
    ]
    assert group_trials(named(tiny_model, a={}, b={}), "cpu", 2) == (
        [["a"], ["b"]], [f"{n}: train.side_by_side: is for one process; trained alone" for n in "ab"],
    )  # fmt: skip


def test_coupled_rows_go_apart_where_they_are_scored_twice(tiny_model: Any) -> None:
    """The others would be scored twice with them."""
    names = ("dpo", "kto", "aot", "ipo")
    for settings, expected in (({}, [[*names]]), ({"micro_batch": 2}, [["dpo", "ipo"], ["kto", "aot"]])):
        jobs = {name: lora_job(tiny_model, name, side_by_side="on", **settings) for name in names}
        assert group_trials(jobs, "cpu", 1) == (expected, [])


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


def test_dropout_in_several_passes_is_refused(tiny_model: Any) -> None:
    jobs = named(tiny_model, a={"lora": {**LORA, "dropout": 0.1}, "tokens": 60}, b={})
    says = "two variants' steps do not fit in one pass, and dropout would differ in several; raise train.tokens"
    assert group_trials(jobs, "cpu", 1) == ([["a"], ["b"]], [f"a: train.side_by_side: {says}; trained alone"])


def test_trials_of_different_seeds_see_different_rows(tiny_model: Any) -> None:
    jobs = named(tiny_model, a={}, b={}, c={"learning_rate": 1e-4}, d={})
    jobs = {name: replace(job, seed=int(name in "bd")) for name, job in jobs.items()}
    assert jobs["a"].steps != jobs["b"].steps
    assert group_trials(jobs, "cpu", 1) == ([["a", "c"], ["b", "d"]], [])
