"""The train stage: train one trial, or several side by side, and write each result or failure to disk."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Any

from prefzoo.engine import model_copies
from prefzoo.engine.base_model import load_policy
from prefzoo.engine.precision import use_bf16
from prefzoo.engine.sharded_model import are_models_sharded
from prefzoo.errors import UserError, VariantFailed
from prefzoo.experiment import work_names
from prefzoo.experiment.base_room import make_room
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.search import Trial
from prefzoo.experiment.stages.frontier import snapshots_of
from prefzoo.experiment.stages.measure import Numbers, state_of_numbers
from prefzoo.experiment.stages.stage import Done, Failed, Result
from prefzoo.experiment.stages.trained import record_rate, record_reason, write_failure, write_result
from prefzoo.experiment.stages.trainings import References, Training, job_with_reference
from prefzoo.experiment.stages.validate import validate, validation_score
from prefzoo.runtime import run_folders
from prefzoo.runtime.distributed import all_gather, broadcast, process_state
from prefzoo.runtime.energy import measured_power
from prefzoo.runtime.live_view import FAILED, KEPT
from prefzoo.runtime.memory import is_out_of_memory, release_memory, return_free_memory, spare
from prefzoo.runtime.plugins import describe_error
from prefzoo.runtime.progress import set_variant_state, stage
from prefzoo.runtime.rates import thread_clock
from prefzoo.runtime.redaction import redact
from prefzoo.training.job import Job, steps_of, with_twin
from prefzoo.training.loop import train
from prefzoo.training.loss_call import call_on_made_up_pairs
from prefzoo.training.member import Member
from prefzoo.training.multi_lora import why_not_groupable

Results = dict[str, Result]
TRACEBACK = "traceback.txt"


def train_trials(experiment: Experiment, names: Sequence[str], until: int | None = None) -> Results:
    """Train trials that are not trained yet, and score them on the validation pairs. All processes call this.

    A trial whose loss diverges or raises fails alone. Any other error ends a run of one trial; in a run of several it
    is recorded for its trial, which the same command tries again, and the others continue. It also ends a training in
    several processes, since the others might wait for the one that raised it.

    Args:
        experiment: what the trials are of.
        names: of one trial, or of several that are trained side by side.
        until: pause after this many optimiser steps, with weights and a checkpoint to resume from, but no result.

    Returns:
        How it ended, by name.

    Raises:
        UserError: see above.
    """
    whole, experiment = experiment, experiment.without_test_split
    results: Results = {}
    todo: list[Training] = []
    for trial in (experiment.trials[name] for name in names):
        training, pause = Training.of(experiment, trial), _pause(experiment, trial, until)
        if pause is not None and validation_score(experiment, trial, pause) is not None:
            results[trial.name] = Done(kept=True)
            continue
        earlier = _earlier(whole, training, pause) or _uncallable(experiment, training)
        if earlier is None:
            todo.append(training)
        else:
            results[trial.name] = earlier
    results |= _train(experiment, todo, until)
    for trial in (experiment.trials[name] for name in names if isinstance(results[name], Done)):
        pause = _pause(experiment, trial, until)
        if experiment.validation and validation_score(experiment, trial, pause) is None:
            validate(experiment, trial, pause)
    return {name: results[name] for name in names}


def _pause(experiment: Experiment, trial: Trial, until: int | None) -> int | None:
    """Return the step at which the training pauses; None if it ends before."""
    return until if until is not None and until < steps_of(trial.variant.train, len(experiment.pairs)) else None


def _earlier(experiment: Experiment, training: Training, pause: int | None) -> Result | None:
    """Return how a training ended before, with these settings; else None, and its folder is made ready."""
    main, name, folder = process_state().is_main_process, training.name, training.folder
    if main and pause is not None:  # the weights of a finished training are not those at an earlier step
        run_folders.discard_result(folder)
    if broadcast(_is_intact(experiment, training) if main else False):
        if main:
            training.checkpoints.remove()
        set_variant_state(name, KEPT, experiment.console, f"{name}: already trained with these settings; reused")
        return Done(kept=True)
    failure = broadcast(run_folders.read_failure(folder))
    if failure is not None and failure.key == training.key:
        line = f"{name}: failed before with these settings at step {failure.step}; --retry-failed tries again"
        set_variant_state(name, FAILED, experiment.console, line)
        return Failed(failure.reason, failure.step)
    if main:
        run_folders.discard_result(folder)
        if not training.checkpoints.folder.is_dir():  # else it resumes, with the snapshots taken before
            snapshots_of(experiment, name).remove()
    return None


def _uncallable(experiment: Experiment, training: Training) -> Failed | None:
    """Call the loss on made-up pairs, before hours are spent on its inputs; return its failure, if any.

    It fails if it fails in one of several processes, since they continue together.
    """
    variant, lines = training.trial.variant, None
    try:
        call_on_made_up_pairs(variant.loss_obj, variant.params, variant.train.batch)
    except VariantFailed as e:
        lines = e.lines
    failures = [other for other in all_gather(lines) if other is not None]
    return write_failure(experiment, training, VariantFailed(failures[0], 0)) if failures else None


def _is_intact(experiment: Experiment, training: Training) -> bool:
    """Return whether an earlier run trained it to its end, and its files are intact."""
    checkpoint = training.folder / "checkpoint"
    if run_folders.why_removed(training.folder):  # they are needed again if anything is to be measured
        earlier = run_folders.read_result(training.folder)
        same = earlier is not None and earlier.key == training.key
        return same and state_of_numbers(experiment, training.name) is Numbers.SAME
    result = run_folders.read_finished(training.folder, training.key)
    if result is not None and result.weights and result.weights != model_copies.content_hash(checkpoint):
        experiment.console.print(f"{checkpoint}: damaged (its checksum is wrong); {training.name} is trained again")
        return False
    return result is not None


def _train(experiment: Experiment, group: Sequence[Training], until: int | None) -> Results:
    if process_state().device.type == "cpu":  # on a GPU, the heap holds little of a training
        return_free_memory()
    make_room(experiment, [training.trial for training in group])
    if len(group) > 1:
        model = _policy(experiment, group[0].trial)
        reason, full = why_not_groupable(model), False
        if not reason:
            try:
                return _train_together(experiment, group, model, until)
            except UserError as e:
                reason = "; ".join(e.lines)
            except Exception as e:  # whichever member's it is, it fails alone when it trains alone
                full = is_out_of_memory(e)
                reason = "out of memory" if full else describe_error(e)
        del model
        if full and _without_base(experiment, group):
            return _train(experiment, group, until)
        return _train_apart(experiment, group, until, reason, halves=full)
    return {training.name: _train_or_record(experiment, training, until) for training in group}


def _train_apart(
    experiment: Experiment, group: Sequence[Training], until: int | None, reason: str, *, halves: bool
) -> Results:
    """Train a group that cannot train side by side in two halves, or one after another."""
    names, middle = ", ".join(training.name for training in group), len(group) // 2
    halves = halves and middle > 1
    instead = "in two groups" if halves else "one after another"
    line = f"{names}: cannot train side by side: {reason}; {instead} instead"
    experiment.console.print(line, soft_wrap=True, markup=False)
    release_memory()
    parts = (group[:middle], group[middle:]) if halves else [[training] for training in group]
    return {name: result for part in parts for name, result in _train(experiment, part, until).items()}


def _train_or_record(experiment: Experiment, training: Training, until: int | None) -> Result:
    several = process_state().num_processes > 1
    try:
        return _train_alone(experiment, training, until)
    except UserError as e:
        lines: Sequence[str] = e.lines
        if several and process_state().is_main_process:
            record_reason(training, lines)
        if several or len(experiment.trials) == 1:
            raise
    except Exception as e:  # of any library: it must not end the other variants
        if several or len(experiment.trials) == 1:
            raise
        file = training.folder / TRACEBACK
        run_folders.write_text(file, redact(traceback.format_exc()))
        lines = [f"unexpected error: {describe_error(e)}; the traceback is in {file}"]
    reason = record_reason(training, lines)
    experiment.console.print(f"{training.name}: {reason}", soft_wrap=True, markup=False)
    set_variant_state(training.name, FAILED, experiment.console)
    return Failed(reason)


def _without_base(experiment: Experiment, group: Sequence[Training]) -> bool:
    """Release the base if it stayed in memory beside trainings; return whether it did: then they may fit now."""
    stayed = process_state().num_processes == 1 and experiment.base.give_up()
    if stayed:
        names = ", ".join(training.name for training in group)
        line = f"{names}: out of memory; trained again without the untrained model in memory"
        experiment.console.print(line, soft_wrap=True, markup=False)
    return stayed


def _train_alone(experiment: Experiment, training: Training, until: int | None) -> Result:
    try:
        return _train_once(experiment, training, until)
    except Exception as e:
        if not (is_out_of_memory(e) and _without_base(experiment, [training])):
            raise
    release_memory()  # by now the traceback is gone, and with it what the failed try held
    return _train_once(experiment, training, until)


def _train_once(experiment: Experiment, training: Training, until: int | None) -> Result:
    references = References.of(experiment, training.quantize)
    job = job_with_reference(experiment, training.trial, references)
    references.release()  # all else that is needed of them is known: their memory is the policy's
    model = _policy(experiment, training.trial)
    return _run_loop(experiment, [training], [with_twin(job, model)], model, until)[training.name]


def _train_together(experiment: Experiment, group: Sequence[Training], model: Any, until: int | None) -> Results:
    references = References.of(experiment)
    jobs = [job_with_reference(experiment, training.trial, references, together=len(group)) for training in group]
    references.release()
    for training in group:
        set_variant_state(training.name, "training", experiment.console)
    return _run_loop(experiment, group, jobs, model, until)


def _run_loop(
    experiment: Experiment, group: Sequence[Training], jobs: Sequence[Job], model: Any, until: int | None
) -> Results:
    pause = _pause(experiment, group[0].trial, until)  # the same for all: trials of a group have equal steps
    members = [
        Member(job, t.log, t.checkpoints, snapshots_of(experiment, t.name)) for t, job in zip(group, jobs, strict=True)
    ]
    title, of = f"training {', '.join(t.name for t in group)}", {"variant": group[0].name, "activity": "training"}
    if len(group) > 1:
        title, of = f"{title} side by side", {}
    with stage(title, "pairs", experiment.console, **of) as report:
        start = monotonic(), thread_clock()
        with measured_power() as power, spare(experiment.base.give_up):
            policies = train(members, model, report, pause)
        busy = min(1.0, (thread_clock() - start[1]) / max(1e-9, monotonic() - start[0]))
    results: Results = {}
    for number, (training, member) in enumerate(zip(group, members, strict=True)):
        record_rate(experiment, member, busy)
        member.costs |= power.joules(member.costs.get("seconds", 0.0))
        if "joules" in member.costs:
            experiment.rates.record(work_names.POWER, member.costs["joules"], member.costs["seconds"])
        if member.failed is not None:
            results[training.name] = write_failure(experiment, training, member.failed)
        else:
            results[training.name] = write_result(experiment, training, policies.model(number), member, pause)
    return results


def _policy(experiment: Experiment, trial: Trial) -> Any:
    settings = trial.variant.train
    stored = settings.lora is not None and use_bf16(settings) and are_models_sharded()  # what is frozen stays so
    load = partial(experiment.load_base, stored=stored)
    return load_policy(load, settings, bf16=use_bf16(settings), seed=trial.seed)
