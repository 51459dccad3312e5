"""What a training leaves: a result or why it failed, in its folder, and how fast it was, in the user's cache."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefzoo.engine import model_copies, models
from prefzoo.errors import VariantFailed
from prefzoo.experiment import work_names
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.stages.stage import Done, Failed
from prefzoo.experiment.stages.trainings import Training
from prefzoo.experiment.work_names import tokens_of
from prefzoo.runtime import run_folders
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.live_view import FAILED, TRAINED
from prefzoo.runtime.progress import set_variant_state
from prefzoo.runtime.run_folders import Failure, RunResult
from prefzoo.training.member import Member

STEADY = 6  # steps: a shorter training says little about a longer one


def write_result(experiment: Experiment, training: Training, model: Any, member: Member, pause: int | None) -> Done:
    """Save a trained model, and its result unless the training paused.

    Args:
        experiment: what the trial is of.
        training: the trial's.
        model: the policy.
        member: its metrics and costs.
        pause: the steps after which it paused; None where it is finished.

    Returns:
        That it is done.
    """
    main, name, console, costs = process_state().is_main_process, training.name, experiment.console, member.costs
    used = f", {costs['flops_utilisation']:.0%} of the GPU's peak flops" if "flops_utilisation" in costs else ""
    console.print(f"  {name}: {costs['tokens_per_second']:.0f} tokens/s{used}")
    models.save(model, experiment.tokenizer, training.folder / "checkpoint", main=main)
    processes = {"processes": process_state().num_processes, "finished": run_folders.utc_timestamp()}
    result = RunResult(
        name, training.trial.variant.loss, training.params, training.settings, training.trial.seed, training.key,
        member.metrics, costs, run_folders.environment() | processes, identity=training.identity,
    )  # fmt: skip
    if main and pause is None:
        result = replace(result, weights=model_copies.content_hash(training.folder / "checkpoint"))
        result.write(training.folder)
        training.checkpoints.remove()
    process_state().wait_for_everyone()
    set_variant_state(name, TRAINED if pause is None else "paused", console)
    return Done()


def record_rate(experiment: Experiment, member: Member, busy: float) -> None:
    """Store how long the tokens of a training took, unless it was so short that its start took most of the time.

    Args:
        experiment: what the trial is of.
        member: what was trained.
        busy: share of the time in which this process computed.
    """
    job, costs = member.job, member.costs
    steps, alone = len(job.steps), process_state().num_processes == 1
    if costs and steps >= STEADY and alone:
        tokens = steps * job.train.batch * tokens_of(job.pairs) / len(job.pairs)
        work = work_names.training(job, int(costs.get("variants_together", 1)))
        experiment.rates.record(work, costs["seconds"] * busy, tokens)


def write_failure(experiment: Experiment, training: Training, error: VariantFailed) -> Failed:
    """Write why it failed, and remove its checkpoint: from there, the same settings would fail again.

    One whose loss fails before its first step is tried again by the same command.

    Args:
        experiment: what the trial is of.
        training: the trial's.
        error: why it failed, and at which step.

    Returns:
        How it ended.
    """
    name, folder, reason = training.name, training.folder, "; ".join(error.lines)
    if process_state().is_main_process:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # of settings from before, with what it answered
        for file in ("model_outputs.json", "annotations.json"):
            (folder / file).unlink(missing_ok=True)
        key = training.key if error.step else ""
        Failure(name, training.trial.variant.loss, key, error.step, reason).write(folder)
        training.checkpoints.remove()
    process_state().wait_for_everyone()
    at = f" at step {error.step}" if error.step and f"step {error.step}" not in reason else ""
    experiment.console.print(f"{name} failed{at}: {reason}", soft_wrap=True, markup=False)
    set_variant_state(name, FAILED, experiment.console)
    return Failed(reason, error.step)


def record_reason(training: Training, lines: Sequence[str], step: int = 0, key: str = "") -> str:
    """Write and return the failure of a trial. Without a key, the same command tries it again.

    Args:
        training: the trial's.
        lines: why.
        step: the step that it failed at.
        key: of its settings, where the same settings would fail the same.

    Returns:
        The reason.
    """
    reason = "; ".join(lines)
    Failure(training.name, training.trial.variant.loss, key, step, reason, own=bool(key)).write(training.folder)
    return reason
