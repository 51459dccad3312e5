"""The first half of `prefzoo run`: every variant trained, alone or side by side, each result or failure on disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefzoo.data.tokens import TokenExample
from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.base_model import Base, load_policy
from prefzoo.engine.precision import use_bf16
from prefzoo.errors import VariantFailed
from prefzoo.experiment.context import Run, logprobs_of
from prefzoo.experiment.stages.frontier import snapshots_of
from prefzoo.recipe.load import Variant
from prefzoo.runtime import run_folders
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.distributed import broadcast, process_state
from prefzoo.runtime.live_view import FAILED, KEPT
from prefzoo.runtime.memory import is_out_of_memory
from prefzoo.runtime.progress import set_variant_state, stage
from prefzoo.runtime.run_folders import Failure, RunResult
from prefzoo.training.checkpoint import Checkpoints
from prefzoo.training.groups import group_trials
from prefzoo.training.job import Job, with_reference
from prefzoo.training.loop import train
from prefzoo.training.member import Member
from prefzoo.training.multi_lora import why_not_groupable
from prefzoo.types import LogProbs

RESUME = "resume"  # beside a variant's checkpoint, while it is trained
NO_OUTCOME = {"trackers", "side_by_side"}  # settings of the loop that change no result
Ended = RunResult | Failure


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


def train_all(run: Run, base: Base, *, retry_failed: bool) -> dict[str, Ended]:
    """Train what is not trained yet; how each variant ended, in the recipe's order."""
    variants, state = run.recipe.variants, process_state()
    jobs = {name: _plain_job(run, variant) for name, variant in variants.items()}
    groups, notes = group_trials(jobs, state.device.type, state.num_processes)
    for note in notes:
        run.console.print(note)
    found: dict[str, Ended] = {}
    for group in groups:
        todo = []
        for training in (_training(run, variants[name]) for name in group):
            before = _before(run, training, retry_failed=retry_failed)
            if before is None:
                todo.append(training)
            else:
                found[training.variant.name] = before
        found |= _train_group(run, todo, base)
    return {name: found[name] for name in variants}


def _train_group(run: Run, group: Sequence[_Training], base: Base) -> dict[str, Ended]:
    if len(group) > 1:
        model = _policy(run, group[0].variant)
        why = why_not_groupable(model)
        if not why:
            try:
                return _train_side_by_side(run, group, model, base)
            except (RuntimeError, MemoryError) as e:
                if not is_out_of_memory(e):
                    raise
            why = "out of memory"
        names = ", ".join(training.variant.name for training in group)
        run.console.print(f"{names}: cannot train side by side: {why}; one after another instead", soft_wrap=True)
        del model
    return {training.variant.name: _train_alone(run, training, base) for training in group}


def _plain_job(run: Run, variant: Variant) -> Job:
    bf16 = use_bf16(variant.train)
    return Job(variant.loss_obj, variant.params, variant.train, run.recipe.seed, run.pairs, run.layout, bf16)


def job_of(run: Run, variant: Variant, base: Base, weights: str) -> Job:
    """The training of a variant, with all that its loss needs of the reference."""
    job = _plain_job(run, variant)
    recipe = run.recipe
    orders = [replace(job, train=v.train, seed=s) for v in recipe.variants.values() for s in run.seeds or [recipe.seed]]
    seen = {i for other in orders for step in other.steps for i in step}

    def frozen(pairs: Sequence[TokenExample], what: str, kind: type[LogProbs]) -> LogProbs:
        return logprobs_of(run, base, weights, pairs, f"reference log-probs, {what}", kind, bf16=job.bf16)

    return with_reference(job, base, frozen, also=sorted(seen))


def training_key(run: Run, variant: Variant) -> str:
    """Hash of all that the outcome of a training depends on."""
    return _training(run, variant).key


def train_variant(run: Run, name: str, base: Base, until: int | None = None) -> Ended:
    """Train one variant, unless it is done; its weights and result, or its failure, are on disk then.

    After `until` steps (None: all of them) it stops, with its weights and a checkpoint to go on from, but no result.
    """
    training = _training(run, run.recipe.variants[name])
    return _before(run, training, retry_failed=False) or _train_alone(run, training, base, until)


def _training(run: Run, variant: Variant) -> _Training:
    settings: dict[str, Any] = {
        "loss": variant.loss,
        "params": variant.params.model_dump(),
        "train": variant.train.model_dump(exclude=NO_OUTCOME),
    }
    bf16, folder = use_bf16(variant.train), run.folder / variant.name
    key = key_of(
        [
            settings,
            run.recipe.seed,
            run.weights,
            reference_logprobs.rows_key(run.pairs),
            reference_logprobs.ENGINE,
            bf16,
        ]
    )
    kept = Checkpoints(folder / RESUME, key, run.save_every, run.console.print)
    return _Training(variant, folder, key, settings["params"], settings["train"], kept)


def _before(run: Run, training: _Training, *, retry_failed: bool) -> Ended | None:
    """How a variant ended before, with these settings; else None, and its folder is made ready."""
    main, name, folder = process_state().is_main_process, training.variant.name, training.folder
    before = broadcast(_intact(run, training) if main else None)
    if before is not None:
        if main:
            training.checkpoints.remove()
        set_variant_state(name, KEPT, run.console, f"{name}: already trained with these settings; kept")
        return before
    broken = broadcast(run_folders.read_failure(folder))
    if broken is not None and broken.key == training.key and not retry_failed:
        line = f"{name}: failed before with these settings at step {broken.step}; --retry-failed tries again"
        set_variant_state(name, FAILED, run.console, line)
        return broken
    if main:
        run_folders.discard_result(folder)
        if not training.checkpoints.folder.is_dir():  # else it goes on, with what was taken before
            snapshots_of(run, name).remove()
    return None


def _intact(run: Run, training: _Training) -> RunResult | None:
    """What an earlier run made of a variant, if its files are still what was written."""
    place = training.folder / "checkpoint"
    found = run_folders.read_finished(training.folder, training.key)
    if found is not None and found.weights and found.weights != models.content_hash(place):
        run.console.print(f"{place}: broken (not what was written); {training.variant.name} is trained again")
        return None
    return found


def _train_alone(run: Run, training: _Training, base: Base, until: int | None = None) -> Ended:
    variant, weights = training.variant, run.weights
    name, quantize = variant.name, variant.train.lora.quantize if variant.train.lora else None
    if quantize:  # the reference is what training starts from: the same model, adapter off
        base.drop()
        base, weights = Base(lambda: _load(run, quantize)), f"{run.weights}-{quantize}"
    job = job_of(run, variant, base, weights)
    if job.live is None:
        base.drop()  # all that is needed of it is known: its room is the policy's
    model = _policy(run, variant)
    member = _member(run, training, job)
    with stage(f"training {name}", "pairs", run.console, variant=name, activity="training") as report:
        train([member], model, report, until)
    return _ended(run, training, member, model, done=until is None)


def _train_side_by_side(run: Run, group: Sequence[_Training], model: Any, base: Base) -> dict[str, Ended]:
    members = [_member(run, t, job_of(run, t.variant, base, run.weights)) for t in group]
    if all(m.job.live is None for m in members):
        base.drop()
    names = ", ".join(t.variant.name for t in group)
    with stage(f"training {names} side by side", "pairs", run.console) as report:
        policies = train(members, model, report)
    return {
        t.variant.name: _ended(run, t, member, policies.model(number))
        for number, (t, member) in enumerate(zip(group, members, strict=True))
    }


def _member(run: Run, training: _Training, job: Job) -> Member:
    return Member(job, training.log, training.checkpoints, snapshots_of(run, training.variant.name))


def _ended(run: Run, training: _Training, member: Member, model: Any, *, done: bool = True) -> Ended:
    if member.failed is not None:
        return _failed(run, training, member.failed)
    return _finished(run, training, model, member.metrics, member.costs, done=done)


def _policy(run: Run, variant: Variant) -> Any:
    how = variant.train
    return load_policy(lambda quantize: _load(run, quantize), how, bf16=use_bf16(how), seed=run.recipe.seed)


def _load(run: Run, quantize: str | None) -> Any:
    recipe = run.recipe
    return models.load(recipe.model, recipe.folder, quantize=quantize, trust=recipe.trust_remote_code)[0]


def _finished(
    run: Run, training: _Training, model: Any, metrics: dict[str, float], costs: dict[str, float], *, done: bool = True
) -> RunResult:
    main, name = process_state().is_main_process, training.variant.name
    used = f", {costs['flops_utilisation']:.0%} of the GPU's peak flops" if "flops_utilisation" in costs else ""
    run.console.print(f"  {name}: {costs['tokens_per_second']:.0f} tokens/s{used}")
    models.save(model, run.tokenizer, training.folder / "checkpoint", main=main)
    result = RunResult(
        name, training.variant.loss, training.params, training.settings, run.recipe.seed, training.key,
        metrics, costs,
        run_folders.environment()
        | {"processes": process_state().num_processes, "finished": run_folders.utc_timestamp()},
    )  # fmt: skip
    if main and done:
        result = replace(result, weights=models.content_hash(training.folder / "checkpoint"))
        result.write(training.folder)
        training.checkpoints.remove()
    process_state().wait_for_everyone()
    set_variant_state(name, "trained", run.console)
    return result


def _failed(run: Run, training: _Training, why: VariantFailed) -> Failure:
    """Keep word of it. Its checkpoint goes: from there, the same settings would fail the same."""
    name, folder = training.variant.name, training.folder
    failure = Failure(name, training.variant.loss, training.key, why.step, "; ".join(why.lines))
    if process_state().is_main_process:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # of settings from before, with what it answered
        for file in ("model_outputs.json", "annotations.json"):
            (folder / file).unlink(missing_ok=True)
        failure.write(folder)
        training.checkpoints.remove()
    process_state().wait_for_everyone()
    run.console.print(f"{name} failed: {failure.reason}", soft_wrap=True, markup=False)
    set_variant_state(name, FAILED, run.console)
    return failure
