"""A variant in training: its log, checkpoints and snapshots, and the update at the end of each of its steps."""

from __future__ import annotations

import json
import math
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch

from prefzoo.errors import VariantFailed
from prefzoo.recipe.sections import Train
from prefzoo.training.checkpoint import Checkpoints, Parts, Point, load, on_device
from prefzoo.training.job import Job
from prefzoo.training.mfu import throughput
from prefzoo.training.moving_reference import MovingReference
from prefzoo.training.policies import Policies
from prefzoo.training.snapshots import Snapshots
from prefzoo.training.step_metrics import GAP, GRAD_NORM

# nats per answer, and share of an answer's log-prob, by which the same weights may differ where kernels do
START_TOLERANCE = {"fp32": (1e-3, 1e-5), "bf16": (0.5, 2e-3)}
FORMULA_TOLERANCE = 1e-3  # relative


@dataclass
class Member:
    """One variant to train, alone or in a group, and its results.

    Attributes:
        metrics_file: gets a line of JSON for each step.
        checkpoints: where it goes on from after an interruption; None for no checkpoints.
        snapshots: copies of the model at some steps; None for none.
        failed: why training stopped before its end; the weights are those before that step.
        metrics: the last step's.
        costs: see `runtime.run_folders.RunResult`; empty if it failed.
    """

    job: Job
    metrics_file: Path
    checkpoints: Checkpoints | None = None
    snapshots: Snapshots | None = None
    failed: VariantFailed | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)


@dataclass
class MemberRun:
    """A member while the loop runs.

    Attributes:
        number: its policy's.
        tracker: the accelerator that logs to the member's trackers.
        checkpoints: the member's, unless the devices allow none.
        at: the point that it has reached.
        saved_step: the step of its newest checkpoint; -1 before the first one.
        moving: the reference that follows its policy; None for one that stays.
    """

    number: int
    member: Member
    policies: Policies
    tracker: Any
    checkpoints: Checkpoints | None
    at: Point = field(init=False)
    saved_step: int = -1
    moving: MovingReference | None = None
    log: TextIO = field(init=False)

    def __post_init__(self) -> None:
        start = on_device(self.job.loss.start(), self.policies.accelerator.device)
        self.at, self.steps = Point(state=start), len(self.job.steps)
        self.optimizer = self.policies.optimizers[self.number]
        self.main = bool(self.policies.accelerator.is_main_process)
        sync, live = self.job.train.sync_reference, self.job.live
        if sync is not None and live is not None:
            self.moving = MovingReference(live, self.policies.module(self.number), sync)

    @property
    def job(self) -> Job:
        """The member's job."""
        return self.member.job

    @property
    def parts(self) -> Parts:
        """All that training changes in place."""
        plain = getattr(self.optimizer, "optimizer", self.optimizer)  # inside Accelerate's wrapper
        return Parts(self.policies.module(self.number), plain, self.moving)

    @property
    def alive(self) -> bool:
        """Whether the member has not failed."""
        return self.member.failed is None

    def report_line(self, line: str) -> None:
        """Show a line to the user."""
        (self.member.checkpoints.report_line if self.member.checkpoints else print)(line)

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint: the metrics file is cut to its steps, and later checkpoints go."""
        self.at = load(checkpoint, self.parts, self.at.state, self.policies.accelerator.device)
        self.saved_step = self.at.step
        if self.main:
            if self.checkpoints is not None:
                self.checkpoints.remove_after(self.at.step)
            os.truncate(self.member.metrics_file, self.at.logged)
        self.report_line(f"resuming after step {self.at.step} of {self.steps}")

    def open_log(self) -> TextIO:
        """Open the metrics file for the steps to come; processes other than the main one write nowhere."""
        target = self.member.metrics_file if self.main else Path(os.devnull)
        self.log = target.open("a" if self.at.step else "w", encoding="utf-8")
        return self.log

    def set_learning_rate(self, step: int) -> None:
        """Set the scheduled rate; before the backward pass, in which DeepSpeed also updates the weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)

    def learning_rate(self, step: int) -> float:
        """Return the scheduled rate of a step."""
        return self.job.train.learning_rate * schedule(self.job.train, step, self.steps)

    def update(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Update the weights with the clipped gradients of a step.

        Args:
            step: its number, from 0.
            metrics: what `backward` returned for it.

        Returns:
            the metrics, with the learning rate and the number of steps done.

        Raises:
            VariantFailed: the loss or the gradient's norm is not finite, or the first step does not start at the
                reference; the weights stay as they were.
        """
        metrics = dict(metrics)
        gap = metrics.pop(GAP, None)
        _check_finite(self.job, "loss", metrics["loss"], step)
        if step == 0 and gap is not None:
            check_start(self.job, gap, metrics)
        _check_finite(self.job, "gradient's norm", metrics[GRAD_NORM], step)
        if self.moving is not None:
            self.moving.follow(step + 1, "before")
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.moving is not None:
            self.moving.follow(step + 1)
        return {**metrics, "learning_rate": self.learning_rate(step), "step": step + 1}

    def record(self, metrics: dict[str, float], state: Any, seconds: float, halvings: int) -> None:
        """Log a step that is done, and move on to the point after it.

        Args:
            metrics: the step's.
            state: the loss's, after the step.
            seconds: this member's share of the step's time.
            halvings: how often passes were halved by now.
        """
        self.log.write(json.dumps(metrics) + "\n")
        self.log.flush()
        self.at = Point(self.at.step + 1, self.at.seconds + seconds, self.log.tell(), metrics, state, halvings)
        self.tracker.log({name: value for name, value in metrics.items() if name != "step"}, step=self.at.step)

    def take_snapshot(self) -> None:
        """Save a copy of the model if one is due after this step."""
        snapshots = self.member.snapshots
        if snapshots is not None and snapshots.due(self.at.step, self.steps):
            snapshots.take(self.policies.model(self.number), self.at.step)

    def save(self) -> None:
        """Write a checkpoint; the one before it stays until it is pruned. All processes call this."""
        if self.checkpoints is not None:
            if self.main:
                os.fsync(self.log.fileno())
            self.checkpoints.write(self.parts, self.at, main=self.main)
        self.saved_step = self.at.step

    def finish(self, together: int) -> None:
        """Fill in the member's metrics and costs.

        Args:
            together: how many members trained in the same passes.
        """
        self.member.metrics = self.at.metrics
        if self.alive:
            costs = self._costs() | {"memory_halvings": float(self.at.halvings)}
            self.member.costs = costs | ({"variants_together": float(together)} if together > 1 else {})

    def _costs(self) -> dict[str, float]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
        seconds = self.at.seconds
        return {
            "seconds": seconds,
            "pairs_per_second": self.steps * self.job.train.batch / seconds,
            "peak_memory_bytes": float(peak),
            "trained_parameters": float(sum(p.numel() for p in self.policies.parameters(self.number))),
            **throughput(self.job, self.policies.network, seconds),
        }


def schedule(train: Train, step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: linear warm-up, then constant, linear or cosine.

    Args:
        train: names the schedule, and the share of all steps that warm up.
        step: the step's number, from 0.
        steps: how many there are in all.

    Returns:
        the share, 0 to 1.
    """
    warm = math.ceil(train.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[train.schedule]


def check_start(job: Job, gap: float, metrics: Mapping[str, float]) -> None:
    """Check that a training starts at its reference, and its loss at the value of the formula.

    With a reference of other weights, it must start at the model that it is to start from; no formula says what its
    loss is there.

    Args:
        job: what is trained.
        gap: mean distance of the policy's log-probs from the reference's, or the starting model's, at the first step,
            in nats per answer.
        metrics: the step's.

    Raises:
        VariantFailed: the distance is larger than rounding explains; or it is zero, and the loss is another than the
            one that it declares for policy = reference.
    """
    loss, params = job.loss, job.params
    if job.train.dropout == "model":
        return
    precision = "bf16" if job.bf16 else "fp32"
    least, share = START_TOLERANCE[precision]
    scale = max((abs(v) for name, v in metrics.items() if name.startswith("logps/")), default=0.0)
    allowed = least + share * scale
    if gap > allowed:
        pair = "policy and reference" if job.start is None else "the policy and the model that it starts from"
        raise VariantFailed(
            f"{loss.name}: at the first step {pair} must have the same log-probs, but they are {gap:.4f} nats apart "
            f"({precision} explains {allowed:.4f}); they are scored differently: other weights, a "
            "dropout that stays on, or a stale cache (delete the folder reference in prefzoo's cache)",
            1,
        )
    expected = None if gap or job.start is not None or loss.at_reference is None else loss.at_reference(params)
    if expected is not None and job.pair_weights is not None:
        expected *= float(job.pair_weights[job.steps[0]].mean())
    if expected is not None and abs(metrics["loss"] - expected) > FORMULA_TOLERANCE * max(1.0, abs(expected)):
        raise VariantFailed(
            f"{loss.name}: the first loss is {metrics['loss']:.6f}, but at policy = reference it must be "
            f"{expected:.6f}; the loss and its `at_reference` disagree",
            1,
        )


def _check_finite(job: Job, name: str, value: float, step: int) -> None:
    if not math.isfinite(value):
        raise VariantFailed(
            f"{job.loss.name}: the {name} is {value} at step {step + 1}; lower train.learning_rate or the loss's scale",
            step + 1,
        )
