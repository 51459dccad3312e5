"""`reference:`: another model as the reference of a run or of a variant; adapters as starting points."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from called import prefzoo
from test_train import job, random_pairs, run

from prefzoo import losses
from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.errors import UserError, VariantFailed
from prefzoo.experiment.references import tokenizer_difference
from prefzoo.experiment.search import expand
from prefzoo.recipe.load import dump, load
from prefzoo.training.groups import group_trials
from prefzoo.training.job import Job, with_reference, with_start
from prefzoo.training.step_metrics import beta_of

IDS = torch.tensor([[5, 6, 7, 8]])
RECIPE = """\
name: tiny
model: model
reference: other
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 2, learning_rate: 1e-3, precision: fp32}
variants:
  dpo:
  own: {loss: dpo, reference: model}
  token_kl: {loss: tdpo2}
  simpo:
"""


@pytest.fixture
def other(tiny_model: Any) -> Any:
    """The tiny model with other weights."""
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05)
    return model


@pytest.fixture
def place(run_folder: Path, other: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    other.save_pretrained(run_folder / "other")
    tiny_tokenizer.save_pretrained(run_folder / "other")
    (run_folder / "r.yaml").write_text(RECIPE)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    return run_folder


def job_from(model: Any, other: Any, name: str = "dpo", **settings: Any) -> Job:
    """A job whose policy starts from `model`, with `other` as its reference."""

    def frozen_by(scorer: Any) -> Any:
        def frozen(rows: Sequence[Any], title: str, kind: Any, passes: Any) -> Any:
            return reference_logprobs.logprobs(scorer, rows, "shared", kind, bf16=False, passes=passes[0])

        return frozen

    this = replace(job(model, name, **settings), other_reference="other")
    return with_reference(with_start(this, frozen_by(model)), Base(lambda: copy.deepcopy(other)), frozen_by(other))


@pytest.mark.parametrize("name", ["dpo", "tdpo2", "kto", "aot"])
def test_rewards_are_measured_from_the_other_model(name: str, tiny_model: Any, other: Any, tmp_path: Path) -> None:
    first = run(tiny_model, job_from(tiny_model, other, name, steps=1), tmp_path)[0]
    rows = job(tiny_model).steps[0]
    pairs, beta = random_pairs(), beta_of(losses.get(name).Params())
    ours, theirs = (
        reference_logprobs.logprobs(m, [pairs[i] for i in rows], "shared", bf16=False) for m in (tiny_model, other)
    )
    assert first["rewards/chosen"] == pytest.approx(beta * float((ours.chosen - theirs.chosen).mean()), rel=1e-4)
    if name == "dpo":
        assert first["loss"] == pytest.approx(
            float(-torch.nn.functional.logsigmoid(0.1 * (ours.margin - theirs.margin)).mean()), rel=1e-5
        )
        assert abs(first["loss"] - 0.6931) > 1e-3


def test_the_first_step_is_tested_against_the_model_that_the_policy_starts_from(
    tiny_model: Any, other: Any, tmp_path: Path
) -> None:
    this = job_from(tiny_model, other)
    with torch.no_grad():
        next(tiny_model.parameters()).mul_(3)
    with pytest.raises(
        VariantFailed, match="the policy and the model that it starts from must have the same log-probs"
    ):
        run(tiny_model, this, tmp_path)


def test_a_group_shares_the_passes_of_different_references_but_one_kl(tiny_model: Any) -> None:
    lora = {"rank": 2, "targets": ["q_proj"]}
    plain, kl = job(tiny_model, lora=lora), job(tiny_model, "tdpo2", lora=lora)
    jobs = {"a": plain, "b": replace(plain, other_reference="x"), "c": kl, "d": replace(kl, other_reference="x")}
    assert group_trials(jobs, "cpu", 1)[0] == [["a", "b", "c"], ["d"]]
    moving = job(tiny_model, lora={**lora}, sync_reference={}, side_by_side="on")
    groups, notes = group_trials({"a": plain, "m": moving}, "cpu", 1)
    assert groups == [["a"], ["m"]] and "does not support a reference that moves" in notes[0]


@pytest.mark.slow
def test_a_run_with_a_reference(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    logs = {
        name: json.loads((place / f"results/tiny/{name}/metrics.jsonl").read_text().splitlines()[0])
        for name in ("dpo", "own", "token_kl", "simpo")
    }
    assert logs["own"]["loss"] == pytest.approx(0.693147, abs=1e-5) and logs["own"]["rewards/chosen"] == 0
    assert logs["dpo"]["rewards/chosen"] != 0 and logs["token_kl"]["rewards/chosen"] != 0
    results = {name: json.loads((place / f"results/tiny/{name}/result.json").read_text()) for name in logs}
    assert results["dpo"]["identity"]["reference"] == "other" and results["own"]["identity"]["reference"] is None
    capsys.readouterr()
    with torch.no_grad():
        changed = models.load("other", place)[0]
        next(changed.parameters()).add_(0.1)
    changed.save_pretrained(place / "other")
    assert prefzoo(monkeypatch, "check", "r.yaml") == 0
    lines = capsys.readouterr().out
    assert "trained again: dpo, token_kl (the content of the reference changed)" in lines
    assert "reused: own, simpo" in lines


def test_a_reference_is_part_of_the_recipe_and_of_its_grids(place: Path) -> None:
    recipe = load(place / "r.yaml")
    assert {name: v.reference for name, v in recipe.variants.items()} == {
        "dpo": "other", "own": "model", "token_kl": "other", "simpo": None
    }  # fmt: skip
    (place / "again.yaml").write_text(dump(recipe))
    assert load(place / "again.yaml").variants == recipe.variants
    grid = load(place / "r.yaml", ["variants={dpo: {reference: [model, ../a/other]}, ipo: {tau: [0.1, 0.2]}}"])
    assert [(t.name, t.variant.reference) for t in expand(grid)] == [
        ("dpo-referencemodel-s0", "model"), ("dpo-referencea-other-s0", "../a/other"),
        ("ipo-tau0.1-s0", "other"), ("ipo-tau0.2-s0", "other"),
    ]  # fmt: skip
    (place / "again.yaml").write_text(dump(grid))
    assert load(place / "again.yaml").variants == grid.variants


def test_a_grid_of_the_runs_reference_is_tried_by_whoever_reads_one(place: Path) -> None:
    recipe = load(place / "r.yaml", ["reference=[model, other]", "sweep={unequal_budgets: flag}"])
    assert [t.name for t in expand(recipe)] == [
        "dpo-referencemodel-s0", "dpo-referenceother-s0", "own-s0", "token_kl-referencemodel-s0",
        "token_kl-referenceother-s0", "simpo-s0",
    ]  # fmt: skip


def test_tokens_that_differ_are_named(tiny_tokenizer: Any) -> None:
    assert tokenizer_difference(tiny_tokenizer, copy.deepcopy(tiny_tokenizer)) == ""
    wider = copy.deepcopy(tiny_tokenizer)
    wider.add_tokens(["<think>"])
    last = len(tiny_tokenizer)
    assert tokenizer_difference(tiny_tokenizer, wider) == (
        f"its tokenizer differs from the model's: token {last} is '<think>' there and missing here "
        f"(1 of {last + 1} differ); name a reference of the same family"
    )


@pytest.mark.parametrize("use", ["run", "check"])
def test_a_reference_that_cannot_be_used_is_refused_in_one_line(
    use: str, place: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_tokenizer.add_tokens(["<think>"])
    tiny_tokenizer.save_pretrained(place / "other")
    assert prefzoo(monkeypatch, use, "r.yaml") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert "reference: other: its tokenizer differs from the model's: token 331 is '<think>' there" in line
    assert prefzoo(monkeypatch, use, "r.yaml", "--set", "variants={dpo: {reference: ./gone}}") == 2
    assert "variants.dpo.reference: model ./gone: no such folder" in capsys.readouterr().err


@pytest.mark.slow
def test_the_memory_of_a_reference_is_planned(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefzoo.experiment import plan

    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        plan, "memory_need", lambda model, pairs, train, **more: asked.setdefault(len(asked), more) and None
    )
    plan.plan_of(place / "r.yaml", ["variants.bema={loss: dpo, reference: model, train: {sync_reference: {bema: {}}}}"])
    dpo, own, token_kl, simpo, bema = asked.values()
    assert dpo["reference"] is not None and dpo["live"] == []
    assert own["reference"] is None and own["live"] == []
    assert token_kl["live"] == [token_kl["reference"]]
    assert simpo == {"bf16": False, "live": [], "reference": None}
    assert len(bema["live"]) == 3


def adapter_in(place: Path) -> Any:
    """Save an adapter as peft saves it after SFT, with weights that matter, and return the model."""
    policy = models.add_lora(models.load("model", place)[0], rank=2, alpha=4.0, dropout=0.0, targets=["q_proj"], seed=0)
    with torch.no_grad():
        for name, p in policy.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.5)
    policy.save_pretrained(place / "sft")
    return policy.eval()


def test_an_adapter_as_the_model_is_merged_so_that_it_is_in_policy_and_reference(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapted = adapter_in(place)
    merged, tokenizer = models.load("sft", place, merge=True)
    torch.testing.assert_close(merged(IDS).logits, adapted(IDS).logits, atol=1e-4, rtol=1e-4)
    assert not any("lora" in name for name, _ in merged.named_parameters()) and len(tokenizer) == 331
    assert "merging the adapter" in capsys.readouterr().err
    models.load("sft", place, merge=True)
    assert "merging" not in capsys.readouterr().err  # once


@pytest.mark.slow
def test_a_policy_on_an_adapter_keeps_it_as_its_reference(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter_in(place)
    low = "variants={low: {loss: dpo, train: {lora: {rank: 2}}}}"
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "model=sft", "--set", "reference=sft", "--set", low) == 0
    folder = place / "results" / "tiny" / "low"
    first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5) and first["rewards/chosen"] == 0
    trained, merged = models.load(str(folder / "checkpoint"), place)[0], models.load("sft", place, merge=True)[0]
    with torch.no_grad():
        moved = (trained(IDS).logits - merged(IDS).logits).abs().max()
    assert 0 < float(moved) < 0.5


def test_an_adapter_without_its_model_is_refused(place: Path) -> None:
    adapter_in(place)
    folder = place / "sft"
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "./gone"}))
    with pytest.raises(UserError, match="model sft: cannot be loaded"):
        models.load("sft", place, merge=True)


@pytest.mark.slow
def test_trainings_with_moving_references_and_weights_are_measured_before_a_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (place / "train.jsonl").read_text().splitlines()
    (place / "train.jsonl").write_text("\n".join(json.dumps(json.loads(line) | {"w": 1.5}) for line in lines))
    variants = (
        "variants={dpo: {train: {pair_weights: w}}, "
        "low: {loss: dpo, reference: model, train: {lora: {rank: 2}, sync_reference: {every: 1, bema: {}}}}}"
    )
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", variants) == 0
    assert "low" in capsys.readouterr().out


@pytest.mark.slow
def test_a_merged_model_that_was_removed_from_the_cache_is_made_again(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter_in(place)
    merged, tokenizer = models.load("sft", place, merge=True)
    policy = models.add_lora(merged, rank=2, alpha=4.0, dropout=0.0, targets=["q_proj"], seed=0)
    models.save(policy, tokenizer, place / "second" / "checkpoint")
    copies = Path(models.base_of(str(place / "second" / "checkpoint"))).parent
    shutil.rmtree(copies)
    again = models.load("second/checkpoint", place)[0]
    torch.testing.assert_close(again(IDS).logits, policy(IDS).logits)
    assert "merging the adapter" in capsys.readouterr().err
    shutil.rmtree(copies)
    shutil.rmtree(place / "sft")
    with pytest.raises(UserError, match="is missing, and so is .*sft, the adapter that was merged into it") as told:
        models.load("second/checkpoint", place, merge=True)
    assert len(told.value.lines) == 1
