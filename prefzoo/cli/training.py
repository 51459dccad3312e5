"""The first half of `prefzoo run`: every variant trained, alone or side by side with others, each result on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.kept import key_of
from prefzoo import models, reference, runs
from prefzoo.adapters import unfit
from prefzoo.checkpoint import Checkpoints
from prefzoo.cli.experiment import Run, logprobs_of
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.job import Job, with_reference
from prefzoo.launch import agreed, processes
from prefzoo.progress import stage
from prefzoo.recipe import Variant
from prefzoo.side import deal
from prefzoo.together import Member, train_together
from prefzoo.train import train, use_bf16
from prefzoo.types import LogProbs

RESUME = "resume"  # beside a variant's checkpoint, while it is trained
NO_OUTCOME = {"trackers", "side_by_side"}  # settings of the loop that change no result


@dataclass(frozen=True)
class _Training:
    """One variant that is to be trained: its settings, their key, its folder."""

    variant: Variant
    folder: Path
    key: str
    params: dict[str, Any]
    settings: dict[str, Any]
    checkpoints: Checkpoints

    @property
    def log(self) -> Path:
        return self.folder / "metrics.jsonl"


def train_all(run: Run, base: Any) -> dict[str, runs.RunResult]:
    """Train what is not trained yet; the results of all variants, in the recipe's order.

    Raises:
        UserError: one diverged; those that trained beside it are finished and kept.
    """
    variants = run.recipe.variants
    jobs = {name: _plain_job(run, variant) for name, variant in variants.items()}
    state = processes()
    groups, notes = deal(jobs, state.device.type, state.num_processes)
    for note in notes:
        run.console.print(note)
    found: dict[str, runs.RunResult] = {}
    for group in groups:
        todo = []
        for training in (_training(run, variants[name]) for name in group):
            before = _before(run, training)
            if before is None:
                todo.append(training)
            else:
                found[training.variant.name] = before
        found |= _train_group(run, todo, base)
    return {name: found[name] for name in variants}


def _train_group(run: Run, group: Sequence[_Training], base: Any) -> dict[str, runs.RunResult]:
    if len(group) > 1:
        model = _policy(run, group[0].variant)
        why = unfit(model)
        if not why:
            return _train_side_by_side(run, group, model, base)
        names = ", ".join(training.variant.name for training in group)
        run.console.print(f"{names}: cannot train side by side: {why}; one after another instead")
        del model
    return {training.variant.name: _train_alone(run, training, base) for training in group}


def _plain_job(run: Run, variant: Variant) -> Job:
    bf16 = use_bf16(variant.train)
    return Job(variant.loss_obj, variant.params, variant.train, run.recipe.seed, run.pairs, run.layout, bf16)


def _job(run: Run, variant: Variant, base: Any, weights: str) -> Job:
    job = _plain_job(run, variant)
    seen = {i for v in run.recipe.variants.values() for step in replace(job, train=v.train).steps for i in step}

    def frozen(pairs: list[TokenPair], what: str, kind: type[LogProbs]) -> LogProbs:
        return logprobs_of(run, base, weights, pairs, f"reference log-probs, {what}", kind, bf16=job.bf16)

    return with_reference(job, base, frozen, also=sorted(seen))


def _training(run: Run, variant: Variant) -> _Training:
    settings: dict[str, Any] = {
        "loss": variant.loss,
        "params": variant.params.model_dump(),
        "train": variant.train.model_dump(exclude=NO_OUTCOME),
    }
    bf16, folder = use_bf16(variant.train), run.folder / variant.name
    key = key_of([settings, run.recipe.seed, run.weights, reference.rows_key(run.pairs), reference.ENGINE, bf16])
    kept = Checkpoints(folder / RESUME, key, run.save_every, run.console.print)
    return _Training(variant, folder, key, settings["params"], settings["train"], kept)


def _before(run: Run, training: _Training) -> runs.RunResult | None:
    """The result of a variant that is trained already; else its folder is made ready."""
    main, before = processes().is_main_process, agreed(runs.finished(training.folder, training.key))
    if before is not None:
        if main:
            training.checkpoints.remove()
        run.console.print(f"{training.variant.name}: already trained with these settings; kept")
    elif main:
        runs.forget(training.folder)
    return before


def _train_alone(run: Run, training: _Training, base: Any) -> runs.RunResult:
    variant, weights = training.variant, run.weights
    quantize = variant.train.lora.quantize if variant.train.lora else None
    if quantize:  # the reference is what training starts from: the same model, adapter off
        base, weights = _load(run, quantize), f"{run.weights}-{quantize}"
    job = _job(run, variant, base, weights)
    model = _policy(run, variant)
    with stage(f"training {variant.name}", "pairs", run.console) as report:
        metrics, costs = train(job, model, training.log, report, training.checkpoints)
    return _finished(run, training, model, metrics, costs)


def _train_side_by_side(run: Run, group: Sequence[_Training], model: Any, base: Any) -> dict[str, runs.RunResult]:
    members = [Member(_job(run, t.variant, base, run.weights), t.log, t.checkpoints) for t in group]
    names = ", ".join(t.variant.name for t in group)
    with stage(f"training {names} side by side", "pairs", run.console) as report:
        adapters = train_together(members, model, report)
    found = {
        t.variant.name: _finished(run, t, adapters.settle(number), member.metrics, member.costs)
        for number, (t, member) in enumerate(zip(group, members, strict=True))
        if member.failed is None
    }
    failed = [line for member in members if member.failed is not None for line in member.failed.lines]
    if failed:
        raise UserError(failed)
    return found


def _policy(run: Run, variant: Variant) -> Any:
    lora = variant.train.lora
    model = _load(run, lora.quantize if lora else None)
    return model if lora is None else models.add_lora(
        model, **lora.model_dump(exclude={"quantize"}), seed=run.recipe.seed
    )  # fmt: skip


def _load(run: Run, quantize: str | None) -> Any:
    return models.load(run.recipe.model, run.recipe.folder, quantize=quantize)[0]


def _finished(
    run: Run, training: _Training, model: Any, metrics: dict[str, float], costs: dict[str, float]
) -> runs.RunResult:
    main, name = processes().is_main_process, training.variant.name
    used = f", {costs['flops_utilisation']:.0%} of the GPU's peak flops" if "flops_utilisation" in costs else ""
    run.console.print(f"  {name}: {costs['tokens_per_second']:.0f} tokens/s{used}")
    models.save(model, run.tokenizer, training.folder / "checkpoint", main=main)
    result = runs.RunResult(
        name, training.variant.loss, training.params, training.settings, run.recipe.seed, training.key,
        metrics, costs, runs.environment() | {"processes": processes().num_processes},
    )  # fmt: skip
    if main:
        result.write(training.folder)
        training.checkpoints.remove()
    processes().wait_for_everyone()
    return result
