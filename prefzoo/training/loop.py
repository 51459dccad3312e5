"""THE loop: one for every loss, for one policy or several, on Accelerate.

Differences between losses are values, never branches. Each member of a group keeps a log, checkpoints, snapshots and
trackers of its own, as if it were alone, and one that diverges stops alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from accelerate import DistributedType

from prefzoo.errors import VariantFailed
from prefzoo.runtime.distributed import broadcast
from prefzoo.runtime.progress import Report, StepNote
from prefzoo.runtime.signals import Interrupted, StopRequest, defer_signals
from prefzoo.training.accelerators import accelerator_for
from prefzoo.training.member import Member, MemberRun
from prefzoo.training.multi_lora import AdapterPolicies
from prefzoo.training.oom_retry import backward_with_oom_retry
from prefzoo.training.policies import OnePolicy, Policies
from prefzoo.training.step import PolicyFailed, StepContext, Stepped


def train(members: Sequence[Member], model: Any, report: Report, until: int | None = None) -> Policies:
    """Train a policy for each member, in place, and fill in its results.

    One member trains `model` itself, which may be sharded over several processes. Several train an adapter each on
    `model`, which then has one fresh adapter, for which `multi_lora.why_not_groupable` must be empty; see
    `groups.group_trials` for who may train together. A member with checkpoints goes on from its newest, bit for bit as
    if it had never stopped.

    The seconds of a step are shared evenly among those that took it, so that they add up to the group's; the peak of
    memory is the group's.

    Args:
        members: what to train; of a member that diverges or whose loss raises, `failed` is set, and the others go on.
        model: a causal language model with at least one parameter that requires gradients.
        report: is told the pairs done, of how many, and a note, after every step.
        until: steps after which training stops with a checkpoint, on the way of the whole training: neither schedule
            nor order of rows depend on it. None for all steps.

    Returns:
        the trained policies; `model(i)` gives the model with member i's weights, to be saved.

    Raises:
        UserError: not even one pair at a time fits into memory.
        MemoryError: the same, of a group; its members may fit one after another.
        Interrupted: a signal asked it to stop, which it did between two steps, with checkpoints.
    """
    with ExitStack() as stack:
        trackers = [stack.enter_context(accelerator_for(m.job, m.metrics_file.parent)) for m in members]
        policies: Policies = (
            OnePolicy(members[0].job, model, trackers[0])
            if len(members) == 1
            else AdapterPolicies([m.job for m in members], model, trackers[0])
        )
        runs = [_start(i, member, policies, trackers[i]) for i, member in enumerate(members)]
        _resume(runs)
        stack.enter_context(policies.training())
        stop = stack.enter_context(defer_signals(any(r.checkpoints for r in runs)))
        for r in runs:
            stack.enter_context(r.open_log())
        _run_steps(runs, policies, report, stop, until)
    for r in runs:
        r.finish(len(runs))
    return policies


def _start(number: int, member: Member, policies: Policies, tracker: Any) -> MemberRun:
    member.metrics_file.parent.mkdir(parents=True, exist_ok=True)
    checkpoints = member.checkpoints
    if checkpoints and policies.accelerator.distributed_type is DistributedType.DEEPSPEED:  # moments in flat shards
        checkpoints.report_line("DeepSpeed: no checkpoint is written; a training that is stopped starts over")
        checkpoints = None
    return MemberRun(number, member, policies, tracker, checkpoints)


def _resume(runs: Sequence[MemberRun]) -> None:
    """Resume from the newest step of which all have a checkpoint, else each from its own newest."""
    usable = broadcast([r.checkpoints.usable(r.member.metrics_file) if r.main and r.checkpoints else {} for r in runs])
    shared = set.intersection(*(set(own) for own in usable))
    for r, own in zip(runs, usable, strict=True):
        if own:
            r.resume(own[max(shared or own)])


def _run_steps(
    runs: Sequence[MemberRun], policies: Policies, report: Report, stop: StopRequest, until: int | None
) -> None:
    plan = runs[0].job.steps
    end = len(plan) if until is None else until
    if any(r.at.step for r in runs):
        _report_progress(runs, report, resumed=True)
    if len(runs) > 1:  # so that all have a checkpoint of the same step, whenever they are killed
        _save([r for r in runs if not r.at.step])
    clock = time.monotonic()
    while pending := [r for r in runs if r.alive and r.at.step < min(end, len(plan))]:
        step = min(r.at.step for r in pending)  # the slowest member catches up first
        now = [r for r in pending if r.at.step == step]
        clock = _step(now, policies, plan[step], clock)
        _report_progress(runs, report)
        for r in now:
            if r.alive:
                r.take_snapshot()
        _save_if_due(runs, stop)
    if len(runs) > 1 or until is not None:  # one member's result may be written soon, and the next one's not
        _save(runs)


def _step(now: Sequence[MemberRun], policies: Policies, rows: Sequence[int], clock: float) -> float:
    """Take one optimiser step of these members, who are at the same one; return the time after it.

    Args:
        now: the members.
        policies: all policies, also those of others.
        rows: the step's.
        clock: the time after the step before, in seconds.
    """
    step = now[0].at.step
    for r in now:
        r.set_learning_rate(step)
    now, stepped, halvings = _gradients(now, policies, rows)
    done: list[tuple[MemberRun, dict[str, float], Any]] = []
    for r, (metrics, state) in zip(now, stepped, strict=True):
        try:
            done.append((r, r.update(step, metrics), state))
        except VariantFailed as e:
            r.member.failed = e
    after = time.monotonic()
    for r, metrics, state in done:
        r.record(metrics, state, (after - clock) / len(now), halvings)
    return after


def _gradients(
    now: Sequence[MemberRun], policies: Policies, rows: Sequence[int]
) -> tuple[list[MemberRun], list[Stepped], int]:
    """Accumulate the gradients of a step; return the members whose loss did not fail, and their metrics."""
    alive, step, job = list(now), now[0].at.step, now[0].job
    while alive:
        context = StepContext(
            policies, [r.number for r in alive], [r.at.state for r in alive], step, rows,
            dropout_seed(job.seed, step, policies.accelerator.process_index), max(r.at.halvings for r in alive),
        )  # fmt: skip
        try:
            return alive, *backward_with_oom_retry(context, alive[0].report_line)
        except PolicyFailed as e:
            failure, number = e.error, e.number
        next(r for r in alive if r.number == number).member.failed = failure
        alive = [r for r in alive if r.alive]
        policies.zero_grad()
    return [], [], 0


def dropout_seed(seed: int, step: int, process: int) -> int:
    """Return the seed of dropout for one step: a resumed run need not know what was drawn before.

    Args:
        seed: the job's.
        step: the step's number, from 0.
        process: the process's index.

    Returns:
        a seed of 64 bits.
    """
    digest = hashlib.sha256(repr((seed, step, process)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _report_progress(runs: Sequence[MemberRun], report: Report, *, resumed: bool = False) -> None:
    alive, steps = [r for r in runs if r.alive], runs[0].steps
    if not alive:
        return
    batch, step = runs[0].job.train.batch, max(r.at.step for r in alive)
    done, total = sum(r.at.step for r in alive) * batch, steps * len(alive) * batch
    if resumed:
        report(done, total, StepNote(step, steps))
    elif len(runs) == 1:
        report(done, total, StepNote(step, steps, runs[0].at.metrics))
    else:
        report(done, total, f"step {step}/{steps}, {len(alive)} variants")


def _save_if_due(runs: Sequence[MemberRun], stop: StopRequest) -> None:
    """Write checkpoints of all if one is due; raise Interrupted if a signal came, to whichever process."""
    alive, accelerator = [r for r in runs if r.alive], runs[0].policies.accelerator
    if not any(r.checkpoints for r in alive):
        return
    due, signum = int(runs[0].main and any(r.checkpoints and r.checkpoints.due() for r in alive)), stop.signum
    if accelerator.num_processes > 1:
        asked = torch.tensor([[due, signum]], device=accelerator.device)
        due, signum = (int(v) for v in accelerator.gather(asked).amax(0))
    if due or signum:
        _save(runs)
    if signum:
        step = min(r.at.step for r in alive)
        raise Interrupted(
            signum, f"stopped after step {step} of {runs[0].steps}; run the same command to resume from there"
        )


def _save(runs: Sequence[MemberRun]) -> None:
    """Write checkpoints; the old ones go when all new ones are on disk, so that all always share a step."""
    fresh = [r for r in runs if r.alive and r.saved_step != r.at.step]
    for r in fresh:
        r.save()
    for r in fresh:
        if r.checkpoints is not None and r.main:
            r.checkpoints.prune()
