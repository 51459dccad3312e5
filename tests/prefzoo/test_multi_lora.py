"""Variants trained in one pass: each one's numbers, weights and checkpoints are those it has alone."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from emulated_device import waits
from emulated_gpu import emulated_gpu
from one_policy import ignore, train_one
from peft import PeftModel
from safetensors.torch import load_file, save_file
from test_train import answers, job

from prefzoo.engine import models, stacked_adapters
from prefzoo.errors import UserError
from prefzoo.training import multi_lora
from prefzoo.training.job import Job
from prefzoo.training.loop import train
from prefzoo.training.member import Member
from prefzoo.training.multi_lora import why_not_groupable
from prefzoo.training.snapshots import Snapshots

LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "targets": "all-linear"}
Trained = tuple[list[dict[str, float]], dict[str, torch.Tensor]]


def lora_job(model: Any, name: str = "dpo", **settings: Any) -> Job:
    return job(model, name, **{"lora": LORA, "learning_rate": 1e-2, **settings})


def policy(model: Any, this: Job) -> Any:
    assert this.train.lora is not None
    return models.add_lora(copy.deepcopy(model), **this.train.lora.model_dump(exclude={"quantize"}), seed=0)


def read(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def alone(model: Any, this: Job, folder: Path) -> Trained:
    member = policy(model, this)
    train_one(this, member, folder / "metrics.jsonl")
    return read(folder), {name: p.detach() for name, p in member.named_parameters() if p.requires_grad}


def together(model: Any, jobs: Sequence[Job], folder: Path) -> list[Trained]:
    members = [Member(this, folder / str(i) / "metrics.jsonl") for i, this in enumerate(jobs)]
    policies = train(members, policy(model, jobs[0]), ignore)
    return [
        (read(folder / str(i)), {name: p.detach() for name, p in policies.module(i).named_parameters()})
        for i in range(len(jobs))
    ]


def same(one: Trained, two: Trained) -> None:
    """Within 1e-4, weights and every number but the accuracy of ties at the first step."""
    for a, b in zip(one[0], two[0], strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"rewards/accuracies"}:
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-4), name
    assert one[1].keys() == two[1].keys()
    for name, value in one[1].items():
        assert torch.allclose(value, two[1][name], rtol=1e-4, atol=1e-4), name


GROUPS: list[tuple[str, list[tuple[str, dict[str, Any]]], dict[str, Any]]] = [
    ("losses", [("dpo", {}), ("simpo", {}), ("ipo", {})], {}),
    ("optimisers", [("dpo", {}), ("dpo", {"learning_rate": 3e-3, "schedule": "linear", "weight_decay": 0.1})], {}),
    ("passes", [("dpo", {}), ("ipo", {}), ("sft", {})], {"tokens": 60}),
    ("micro-batches", [("dpo", {}), ("ipo", {})], {"micro_batch": 1}),
    ("coupled", [("kto", {}), ("dpo", {}), ("aot", {}), ("bco_pair_shift", {}), ("gamma_dpo", {})], {}),
    ("coupled passes", [("kto", {}), ("aot", {})], {"micro_batch": 2}),
    ("modified", [("dpo with humanline and dr", {}), ("dpo", {}), ("kto with humanline", {})], {"micro_batch": 2}),
    ("tokens", [("tdpo2", {}), ("sampo", {}), ("dpo", {}), ("wpo", {})], {}),
    ("twice", [("dpo", {}), ("tdpo2", {})], {"gradient_checkpointing": True}),
    ("dropout", [("dpo", {}), ("kto", {}), ("ipo", {})], {"lora": {**LORA, "dropout": 0.3}}),
    ("dropout, micro-batches", [("dpo", {}), ("ipo", {})], {"lora": {**LORA, "dropout": 0.3}, "micro_batch": 2}),
    ("dropout, coupled", [("kto", {}), ("aot", {})], {"lora": {**LORA, "dropout": 0.3}, "micro_batch": 2}),
    ("alphas", [("dpo", {}), ("simpo", {"lora": {**LORA, "alpha": 6.0}})], {}),
    ("other optimisers", [("dpo", {"optimizer": "muon"}), ("ipo", {"optimizer": "adafactor"}), ("simpo", {})], {}),
    ("rows", [("dpo", {}), ("simpo", {})], {"layout": "rows"}),
    ("packed", [("dpo", {}), ("simpo", {})], {"layout": "packed"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("variants", "settings"), [g[1:] for g in GROUPS], ids=[g[0] for g in GROUPS])
def test_each_trajectory_is_the_one_alone(
    variants: list[tuple[str, dict[str, Any]]], settings: dict[str, Any], tiny_model: Any, tmp_path: Path
) -> None:
    jobs = [lora_job(tiny_model, name, **{**settings, **own}) for name, own in variants]
    trained = together(tiny_model, jobs, tmp_path)
    for i, this in enumerate(jobs):
        expected = alone(tiny_model, this, tmp_path / f"alone{i}")
        same(expected, trained[i])
        start = {n: p for n, p in policy(tiny_model, this).named_parameters() if p.requires_grad}
        assert any(not torch.allclose(p, trained[i][1][n], atol=1e-3) for n, p in start.items())  # it went somewhere


@pytest.mark.slow
def test_in_bf16_each_goes_its_own_way(tiny_model: Any, tmp_path: Path) -> None:
    jobs = [replace(lora_job(tiny_model, name), bf16=True) for name in ("simpo", "sft")]
    trained = together(tiny_model, jobs, tmp_path)
    for i, this in enumerate(jobs):
        expected = alone(tiny_model, this, tmp_path / f"alone{i}")[0]
        assert [m["loss"] for m in trained[i][0]] == pytest.approx([m["loss"] for m in expected], rel=0.03)


@pytest.mark.parametrize(
    "settings",
    [
        {"micro_batch": 2},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"gradient_checkpointing": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_gpu_s_way_gives_each_its_own_numbers(settings: dict[str, Any], tiny_model: Any, tmp_path: Path) -> None:
    """There all parts are one product, also in the head; `wpo` reads its statistics, and `aot` couples rows."""
    with emulated_gpu():
        jobs = [lora_job(tiny_model, name, steps=2, **settings) for name in ("dpo", "wpo", "aot")]
        values = together(tiny_model, jobs, tmp_path)
        for i, this in enumerate(jobs):
            same(alone(tiny_model, this, tmp_path / f"alone{i}"), values[i])


def test_a_gpu_s_way_in_bf16(tiny_model: Any, tmp_path: Path) -> None:
    """Before any update the numbers are those of each alone, through the kernels that a GPU has for bf16."""
    with emulated_gpu():
        jobs = [replace(lora_job(tiny_model, name, steps=1), bf16=True) for name in ("simpo", "sft")]
        values = together(tiny_model, jobs, tmp_path)
        for i, this in enumerate(jobs):
            (expected,), _ = alone(tiny_model, this, tmp_path / f"alone{i}")
            for name in ("loss", "logps/chosen", "logps/rejected", "grad_norm"):
                assert values[i][0][0][name] == pytest.approx(expected[name], rel=1e-2), name


def test_a_step_of_all_waits_for_a_gpu_once(tiny_model: Any, tmp_path: Path) -> None:
    jobs = [lora_job(tiny_model, name, steps=2) for name in ("dpo", "simpo", "kto")]
    members = [Member(this, tmp_path / str(i) / "metrics.jsonl") for i, this in enumerate(jobs)]
    model = policy(tiny_model, jobs[0])
    with emulated_gpu(), waits(model) as mode:
        train(members, model, ignore)
    assert len(mode.lines) == 2, mode.lines


@pytest.mark.slow
def test_each_is_saved_with_its_own_alpha(tiny_model: Any, tmp_path: Path) -> None:
    jobs = [lora_job(tiny_model, steps=1, lora={**LORA, "alpha": alpha}) for alpha in (4.0, 6.0)]
    members = [Member(this, tmp_path / str(i) / "metrics.jsonl") for i, this in enumerate(jobs)]
    policies = train(members, policy(tiny_model, jobs[0]), ignore)
    ids = torch.arange(2, 9)[None]
    for i, this in enumerate(jobs):
        policies.model(i).save_pretrained(tmp_path / "saved" / str(i))
        loaded = PeftModel.from_pretrained(copy.deepcopy(tiny_model), tmp_path / "saved" / str(i))
        own = policy(tiny_model, this)
        train_one(this, own, tmp_path / "alone" / "metrics.jsonl")
        assert torch.allclose(loaded(ids).logits, own.eval()(ids).logits, rtol=1e-4, atol=1e-4)
        assert torch.allclose(policies.model(i).eval()(ids).logits, own(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_layer_that_does_not_see_all_rows_ends_the_group(tiny_model: Any, tmp_path: Path) -> None:
    """As an expert, which gets some of the tokens: whose they are is not known."""
    this = lora_job(tiny_model, "sft")
    half = policy(tiny_model, this)
    layer = half.get_base_model().model.layers[0].mlp
    layer.forward = lambda x: torch.cat([layer.down_proj(layer.up_proj(part)) for part in x.chunk(2, 1)], 1)
    members = [Member(this, tmp_path / str(i) / "metrics.jsonl") for i in range(2)]
    with pytest.raises(UserError, match="layers.0.mlp.up_proj does not see all tokens of a pass"):
        train(members, half, ignore)


@pytest.mark.slow
def test_single_answers(tiny_model: Any, tmp_path: Path) -> None:
    jobs = [lora_job(tiny_model, name, pairs=answers()) for name in ("kto", "apo_zero_unpaired")]
    trained = together(tiny_model, jobs, tmp_path)
    for i, this in enumerate(jobs):
        same(alone(tiny_model, this, tmp_path / f"alone{i}"), trained[i])


def test_a_pass_holds_no_more_tokens_than_one_variant_may(tiny_model: Any, tmp_path: Path) -> None:
    sizes: list[int] = []
    tiny_model.model.layers[0].register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[1]))
    jobs = [lora_job(tiny_model, name, tokens=100) for name in ("simpo", "sft")]
    together(tiny_model, jobs, tmp_path)
    assert len(sizes) > 6 and max(sizes) <= 100  # six steps


@pytest.mark.slow
def test_one_that_diverges_stops_and_the_others_go_on(tiny_model: Any, tmp_path: Path) -> None:
    good, bad = lora_job(tiny_model), lora_job(tiny_model, "simpo", learning_rate=1e38, weight_decay=1e38)
    members = [Member(j, tmp_path / str(i) / "metrics.jsonl") for i, j in enumerate((good, bad, good))]
    policies = train(members, policy(tiny_model, good), ignore)
    assert [bool(m.failed) for m in members] == [False, True, False]
    assert "simpo: the loss is nan at step" in str(members[1].failed)
    assert 0 < len(read(tmp_path / "1")) < 6 and not members[1].costs
    expected = alone(tiny_model, good, tmp_path / "alone")
    for i in (0, 2):
        weights = {n: p.detach() for n, p in policies.module(i).named_parameters()}
        same(expected, (read(tmp_path / str(i)), weights))


def test_the_seconds_of_all_add_up_to_those_that_passed(tiny_model: Any, tmp_path: Path) -> None:
    jobs = [lora_job(tiny_model, name) for name in ("dpo", "ipo")]
    members = [Member(j, tmp_path / str(i) / "metrics.jsonl") for i, j in enumerate(jobs)]
    start = time.monotonic()
    train(members, policy(tiny_model, jobs[0]), ignore)
    passed, costs = time.monotonic() - start, [m.costs for m in members]
    assert 0 < sum(c["seconds"] for c in costs) < passed
    assert costs[0]["seconds"] == costs[1]["seconds"] and {c["variants_together"] for c in costs} == {2.0}
    one = sum(p.numel() for p in policy(tiny_model, jobs[0]).parameters() if p.requires_grad)
    assert [c["trained_parameters"] for c in costs] == [one, one]


@pytest.mark.slow
def test_snapshots_of_each(tiny_model: Any, tmp_path: Path) -> None:
    """Those of a group are each member's own: the weights that it has after as many steps alone."""
    jobs = [lora_job(tiny_model, name, schedule="constant", warmup=0.0) for name in ("dpo", "ipo")]

    def save(model: Any, folder: Path) -> None:
        folder.mkdir(parents=True)
        save_file({n: p.detach().clone() for n, p in model.named_parameters() if "lora_" in n}, folder / "w")

    members = [
        Member(j, tmp_path / str(i) / "metrics.jsonl", snapshots=Snapshots(tmp_path / str(i) / "snapshots", 3, save))
        for i, j in enumerate(jobs)
    ]
    train(members, policy(tiny_model, jobs[0]), ignore)
    for i, (this, member) in enumerate(zip(jobs, members, strict=True)):
        assert member.snapshots is not None and list(member.snapshots.taken()) == [2, 4]
        short = replace(this, train=this.train.model_copy(update={"steps": 4}))
        expected = alone(tiny_model, short, tmp_path / f"alone{i}")[1]
        taken = load_file(member.snapshots.path(4) / "w")
        assert taken.keys() == expected.keys()
        assert all(torch.allclose(taken[n], expected[n], rtol=1e-4, atol=1e-4) for n in expected)
        assert not torch.equal(*(next(iter(load_file(member.snapshots.path(n) / "w").values())) for n in (2, 4)))


def short_of_memory(tokens: int, model: Any) -> list[int]:
    """Let passes of more tokens ask the real allocator for what it does not have; returns the sizes of passes."""
    sizes: list[int] = []

    def hungry(module: Any, args: Any) -> None:
        sizes.append(args[0].shape[1])
        if sizes[-1] > tokens:
            torch.empty(2**56, dtype=torch.uint8)

    model.model.layers[0].register_forward_pre_hook(hungry)
    return sizes


@pytest.mark.slow
@pytest.mark.parametrize("names", [("dpo", "ipo"), ("kto", "aot")], ids=["independent", "coupled"])
def test_a_group_that_does_not_fit_goes_on_in_smaller_passes(
    names: tuple[str, ...], tiny_model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [lora_job(tiny_model, name) for name in names]
    expected = together(tiny_model, jobs, tmp_path / "whole")
    sizes = short_of_memory(120, tiny_model)
    members = [Member(this, tmp_path / str(i) / "metrics.jsonl") for i, this in enumerate(jobs)]
    policies = train(members, policy(tiny_model, jobs[0]), ignore)
    (line,) = capsys.readouterr().out.splitlines()
    smaller = "with 4 pairs at a time; continues with 2 at a time, the same batch"
    assert re.fullmatch(rf"{', '.join(names)}: out of memory at step \d {smaller}", line)
    assert max(sizes) > 120 and sizes[-1] <= 120
    assert {m.costs["memory_halvings"] for m in members} == {1.0}
    for i, one in enumerate(expected):
        weights = {name: p.detach() for name, p in policies.module(i).named_parameters()}
        same(one, (read(tmp_path / str(i)), weights))


@pytest.mark.slow
def test_a_group_of_which_not_one_pair_fits_says_so(tiny_model: Any, tmp_path: Path) -> None:
    jobs = [lora_job(tiny_model, name) for name in ("dpo", "ipo")]
    short_of_memory(10, tiny_model)
    with pytest.raises(MemoryError, match="dpo, ipo: out of memory at step 1 with one pair at a time"):
        together(tiny_model, jobs, tmp_path)


def test_what_cannot_be_dealt_out_to_adapters(tiny_model: Any) -> None:
    def adapted(targets: Any) -> Any:
        return models.add_lora(copy.deepcopy(tiny_model), rank=2, alpha=4.0, dropout=0.0, targets=targets, seed=0)

    assert why_not_groupable(adapted("all-linear")) == ""
    assert (
        why_not_groupable(adapted(["lm_head"]))
        == "an adapter on the output head is added to its weight, of which there is one"
    )
    assert "embed_tokens is not a plain linear layer" in why_not_groupable(adapted(["embed_tokens", "q_proj"]))
    other = adapted(["q_proj"])
    other.get_base_model().model.norm.weight.requires_grad_(True)
    assert "norm.weight is trained too" in why_not_groupable(other)


def rounds_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every product depend on how many rows it has, as kernels of some processors do."""
    linear = torch.nn.functional.linear

    def rounded(x: torch.Tensor, *args: Any) -> torch.Tensor:
        return linear(x, *args) * (1 + 1e-3 * (x.shape[:-1].numel() % 7))

    monkeypatch.setattr(torch.nn.functional, "linear", rounded)
    monkeypatch.setattr(multi_lora, "linear", rounded)
    monkeypatch.setattr(stacked_adapters, "linear", rounded)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["shared", "rows"])
def test_the_first_margin_is_zero_where_rounding_depends_on_the_number_of_rows(
    layout: Any, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds_by_rows(monkeypatch)
    targets = {"lora": {**LORA, "targets": ["q_proj", "v_proj"]}}  # the other layers are frozen and not adapted
    jobs = [
        lora_job(tiny_model, name, layout=layout, together=3, tokens=240, **targets) for name in ("dpo", "kto", "tdpo2")
    ]
    for log, _ in together(tiny_model, jobs, tmp_path):
        assert log[0]["rewards/margins"] == 0 and log[0]["rewards/chosen"] == 0
