"""The first half of `prefzoo run`: every variant trained, each result or failure on disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.kept import key_of
from prefzoo import models, reference, runs
from prefzoo.checkpoint import Checkpoints
from prefzoo.cli.experiment import Run, logprobs_of
from prefzoo.cli.frontier import snapshots_of
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import VariantFailed
from prefzoo.job import Job, with_reference
from prefzoo.launch import agreed, processes
from prefzoo.live import FAILED, KEPT
from prefzoo.progress import settle, stage
from prefzoo.recipe import Variant
from prefzoo.runs import Failure, RunResult
from prefzoo.train import train, use_bf16
from prefzoo.types import LogProbs

RESUME = "resume"  # beside a variant's checkpoint, while it is trained
NO_OUTCOME = {"trackers"}  # settings of the loop that change no result
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


def train_all(run: Run, base: Any, *, retry_failed: bool) -> dict[str, Ended]:
    """Train what is not trained yet; how each variant ended, in the recipe's order."""
    found: dict[str, Ended] = {}
    for name, variant in run.recipe.variants.items():
        training = _training(run, variant)
        before = _before(run, training, retry_failed=retry_failed)
        found[name] = before or _train_alone(run, training, base)
    return found


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


def _before(run: Run, training: _Training, *, retry_failed: bool) -> Ended | None:
    """How a variant ended before, with these settings; else None, and its folder is made ready."""
    main, name, folder = processes().is_main_process, training.variant.name, training.folder
    before = agreed(_intact(run, training) if main else None)
    if before is not None:
        if main:
            training.checkpoints.remove()
        settle(name, KEPT, run.console, f"{name}: already trained with these settings; kept")
        return before
    broken = agreed(runs.read_failure(folder))
    if broken is not None and broken.key == training.key and not retry_failed:
        line = f"{name}: failed before with these settings at step {broken.step}; --retry-failed tries again"
        settle(name, FAILED, run.console, line)
        return broken
    if main:
        runs.forget(folder)
        if not training.checkpoints.folder.is_dir():  # else it goes on, with what was taken before
            snapshots_of(run, name).remove()
    return None


def _intact(run: Run, training: _Training) -> RunResult | None:
    """What an earlier run made of a variant, if its files are still what was written."""
    place = training.folder / "checkpoint"
    found = runs.finished(training.folder, training.key)
    if found is not None and found.weights and found.weights != models.content(place):
        run.console.print(f"{place}: broken (not what was written); {training.variant.name} is trained again")
        return None
    return found


def _train_alone(run: Run, training: _Training, base: Any) -> Ended:
    variant, weights = training.variant, run.weights
    name, quantize = variant.name, variant.train.lora.quantize if variant.train.lora else None
    if quantize:  # the reference is what training starts from: the same model, adapter off
        base, weights = _load(run, quantize), f"{run.weights}-{quantize}"
    else:
        base = base.to(processes().device)
    job = _job(run, variant, base, weights)
    if job.live is None and not quantize:
        base.to("cpu")  # all that is needed of it is known: its room on the device is the policy's
    model = _policy(run, variant)
    try:
        with stage(f"training {name}", "pairs", run.console, of=name, doing="training") as report:
            metrics, costs = train(job, model, training.log, report, training.checkpoints, snapshots_of(run, name))
    except VariantFailed as e:
        return _failed(run, training, e)
    return _finished(run, training, model, metrics, costs)


def _policy(run: Run, variant: Variant) -> Any:
    lora = variant.train.lora
    model = _load(run, lora.quantize if lora else None)
    return model if lora is None else models.add_lora(
        model, **lora.model_dump(exclude={"quantize"}), seed=run.recipe.seed
    )  # fmt: skip


def _load(run: Run, quantize: str | None) -> Any:
    recipe = run.recipe
    return models.load(recipe.model, recipe.folder, quantize=quantize, trust=recipe.trust_remote_code)[0]


def _finished(
    run: Run, training: _Training, model: Any, metrics: dict[str, float], costs: dict[str, float]
) -> RunResult:
    main, name = processes().is_main_process, training.variant.name
    models.save(model, run.tokenizer, training.folder / "checkpoint", main=main)
    result = RunResult(
        name, training.variant.loss, training.params, training.settings, run.recipe.seed, training.key,
        metrics, costs, runs.environment() | {"processes": processes().num_processes},
    )  # fmt: skip
    if main:
        result = replace(result, weights=models.content(training.folder / "checkpoint"))
        result.write(training.folder)
        training.checkpoints.remove()
    processes().wait_for_everyone()
    settle(name, "trained", run.console)
    return result


def _failed(run: Run, training: _Training, why: VariantFailed) -> Failure:
    """Keep word of it. Its checkpoint goes: from there, the same settings would fail the same."""
    name, folder = training.variant.name, training.folder
    failure = Failure(name, training.variant.loss, training.key, why.step, "; ".join(why.lines))
    if processes().is_main_process:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # of settings from before, with what it answered
        for file in ("model_outputs.json", "annotations.json"):
            (folder / file).unlink(missing_ok=True)
        failure.write(folder)
        training.checkpoints.remove()
    processes().wait_for_everyone()
    run.console.print(f"{name} failed: {failure.reason}", soft_wrap=True, markup=False)
    settle(name, FAILED, run.console)
    return failure
