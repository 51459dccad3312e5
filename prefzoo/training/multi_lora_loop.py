"""The loop for variants that train in one pass: train.py's, step by step, for all of them at once.

Each keeps a log, checkpoints and trackers of its own, as if it were alone, and one that diverges stops alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch

from prefzoo.errors import VariantFailed
from prefzoo.runtime.progress import Report
from prefzoo.runtime.signals import Interrupted, StopRequest, defer_signals
from prefzoo.training.checkpoint import Checkpoints, Parts, Point, load
from prefzoo.training.job import Job
from prefzoo.training.loop import (
    accelerator_for,
    check_loss,
    costs_of,
    enable_gradient_checkpointing,
    finite,
    schedule,
    seed_of,
)
from prefzoo.training.multi_lora import Adapter, Adapters
from prefzoo.training.multi_lora_step import Policies, backward_together


@dataclass
class Member:
    """One variant of a group.

    Attributes:
        failed: why it stopped before its end.
        metrics, costs: as `train` returns them, once it is done.
    """

    job: Job
    metrics_file: Path
    checkpoints: Checkpoints | None = None
    failed: VariantFailed | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)


@dataclass
class _Running:
    """A member while it is trained."""

    number: int
    member: Member
    policy: Adapter
    optimizer: torch.optim.Optimizer
    accelerator: Any
    at: Point
    steps: int
    kept: int = -1
    log: TextIO = field(init=False)

    @property
    def parts(self) -> Parts:
        return Parts(self.policy, self.optimizer)

    @property
    def pending(self) -> bool:
        return self.member.failed is None and self.at.step < self.steps


def train_together(members: Sequence[Member], model: Any, report: Report) -> Adapters:
    """Train an adapter for each member on `model`, which has a fresh one; fills in what each of them comes to.

    The seconds of a step are shared out evenly among those that took it, so that they add up to the group's; the peak
    of memory is the group's.

    Raises:
        Interrupted: a signal asked it to stop, which it did between two steps, with checkpoints.
    """
    accelerators = [accelerator_for(m.job, m.metrics_file.parent) for m in members]
    model.to(accelerators[0].device)
    adapters = Adapters(model, len(members))
    enable_gradient_checkpointing(members[0].job, model)
    model.train()
    policies, plan = Policies(adapters, [m.job for m in members], accelerators[0].device), members[0].job.steps
    running = [
        _running(i, m, adapters.each[i], a, len(plan))
        for i, (m, a) in enumerate(zip(members, accelerators, strict=True))
    ]
    _go_on(running)
    with ExitStack() as files, defer_signals(any(m.checkpoints for m in members)) as stop:
        for r in running:
            r.log = files.enter_context(r.member.metrics_file.open("a" if r.at.step else "w", encoding="utf-8"))
        _keep([r for r in running if not r.at.step])  # so that all have one of the same step, whenever they are killed
        while pending := [r for r in running if r.pending]:
            step = min(r.at.step for r in pending)  # who is behind catches up first
            _step([r for r in pending if r.at.step == step], policies, step, plan[step])
            _say(running, report)
            _keep_where_due(running, stop)
        _keep(running)  # one member's result may be written, and the next one's not
    for r in running:
        _finish(r, model, len(running))
    return adapters


def _running(number: int, member: Member, policy: Adapter, accelerator: Any, steps: int) -> _Running:
    how = member.job.train
    trained = [p for _, p in policy.named_parameters()]
    optimizer = torch.optim.AdamW(trained, lr=how.learning_rate, weight_decay=how.weight_decay, fused=True)
    member.metrics_file.parent.mkdir(parents=True, exist_ok=True)
    return _Running(number, member, policy, optimizer, accelerator, Point(state=member.job.loss.start()), steps)


def _go_on(running: Sequence[_Running]) -> None:
    """From the newest step of which all have a checkpoint, else each from its own newest."""
    kept = [r.member.checkpoints.usable(r.member.metrics_file) if r.member.checkpoints else {} for r in running]
    shared = set.intersection(*(set(found) for found in kept))
    for r, found in zip(running, kept, strict=True):
        if r.member.checkpoints is None:
            continue
        if not found:
            r.member.checkpoints.remove()
            continue
        newest = found[max(shared or found)]
        r.at = load(newest, r.parts, r.at.state, r.accelerator.device)
        r.kept = r.at.step
        os.truncate(r.member.metrics_file, r.at.logged)
        r.member.checkpoints.say(f"going on after step {r.at.step} of {r.steps}")


def _step(now: Sequence[_Running], policies: Policies, step: int, rows: Sequence[int]) -> None:
    """One optimiser step (from 0) of these members."""
    start = time.monotonic()
    torch.manual_seed(seed_of(now[0].member.job.seed, step, 0))
    numbers, states = [r.number for r in now], [r.at.state for r in now]
    found = backward_together(policies, numbers, now[0].accelerator, step, rows, states)
    done: list[tuple[_Running, dict[str, float], Any]] = []
    for r, (metrics, state) in zip(now, found, strict=True):
        try:
            check_loss(r.member.job, step, metrics["loss"])
            done.append((r, metrics | _update(r, step), state))
        except VariantFailed as e:
            r.member.failed = e
    share = (time.monotonic() - start) / len(now)
    for r, metrics, state in done:
        r.log.write(json.dumps(metrics) + "\n")
        r.log.flush()
        r.at = Point(step + 1, r.at.seconds + share, r.log.tell(), metrics, state)
        r.accelerator.log(metrics, step=step + 1)


def _update(r: _Running, step: int) -> dict[str, float]:
    how = r.member.job.train
    rate = how.learning_rate * schedule(how, step, r.steps)
    for group in r.optimizer.param_groups:
        group["lr"] = rate
    norm = torch.nn.utils.clip_grad_norm_([p for _, p in r.policy.named_parameters()], how.max_grad_norm)
    finite(r.member.job, "gradient's norm", float(norm), step)
    r.optimizer.step()
    r.optimizer.zero_grad()
    return {"grad_norm": float(norm), "learning_rate": rate, "step": step + 1}


def _say(running: Sequence[_Running], report: Report) -> None:
    batch = running[0].member.job.train.batch
    alive = [r for r in running if r.member.failed is None]
    done, step = sum(r.at.step for r in alive), max((r.at.step for r in alive), default=0)
    steps = running[0].steps
    report(done * batch, steps * len(alive) * batch, f"step {step}/{steps}, {len(alive)} variants")


def _keep_where_due(running: Sequence[_Running], stop: StopRequest) -> None:
    """Checkpoints of all where one is due; raises Interrupted where a signal came."""
    if stop.signum or any(r.member.checkpoints and r.member.checkpoints.due() for r in running):
        _keep(running)
    if stop.signum:
        step = min(r.at.step for r in running if r.member.failed is None)
        said = f"stopped after step {step} of {running[0].steps}; the same command goes on from there"
        raise Interrupted(stop.signum, said)


def _keep(running: Sequence[_Running]) -> None:
    """The old ones go when all new ones are on disk, so that there is always a step of which all have one."""
    fresh = [r for r in running if r.member.failed is None and r.kept != r.at.step]
    for r in fresh:
        os.fsync(r.log.fileno())
        if r.member.checkpoints:
            r.member.checkpoints.write(r.parts, r.at, prune=False)
    for r in fresh:
        r.kept = r.at.step
        if r.member.checkpoints:
            r.member.checkpoints.prune()


def _finish(r: _Running, model: Any, together: int) -> None:
    for tracker in r.accelerator.trackers:
        tracker.finish()
    job, trained = r.member.job, sum(p.numel() for _, p in r.policy.named_parameters())
    r.member.metrics = r.at.metrics
    costs = costs_of(job, model, r.at.seconds, trained) if r.member.failed is None else {}
    r.member.costs = costs | ({"variants_together": float(together), "memory_halvings": 0.0} if costs else {})
