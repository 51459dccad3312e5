"""THE loop: one for every loss, on Accelerate. Differences between losses are values, never branches."""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from transformers.integrations import unset_hf_deepspeed_config

from prefzoo.engine.logprobs import score, score_with_kl
from prefzoo.errors import UserError, VariantFailed, did_you_mean
from prefzoo.recipe.sections import Train
from prefzoo.runtime.distributed import broadcast, process_state
from prefzoo.runtime.progress import Report, StepNote
from prefzoo.runtime.sharding import clone_fields, gather_full_tensor
from prefzoo.runtime.signals import Interrupted, StopRequest, defer_signals
from prefzoo.training.checkpoint import Checkpoints, Parts, Point, load
from prefzoo.training.job import Job
from prefzoo.training.loss_inputs import kind_of
from prefzoo.training.mfu import work_of
from prefzoo.training.oom_retry import backward_with_oom_retry
from prefzoo.training.snapshots import Snapshots
from prefzoo.training.step import Stepped
from prefzoo.types import LogProbs, PairBatch


class Scorer(nn.Module):
    """The policy as a module from batch to log-probs, so that wrappers (DDP, FSDP) see one forward."""

    def __init__(self, model: Any, kind: type[LogProbs], reference: Any) -> None:
        super().__init__()
        self.model = model
        self.kind = kind
        self.reference = [reference]  # in a list, so that it is no part of what is trained
        self._no_split_modules = getattr(model, "_no_split_modules", None)  # what Accelerate shards by

    def forward(self, batch: PairBatch) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The tensors of the log-probs, and of the KL from the reference where there is one (see `scored`)."""
        if self.reference[0] is None:
            return clone_fields(score(self.model, batch, self.kind)), ()
        found, kl = score_with_kl(self.model, self.reference[0], batch, self.kind)
        return clone_fields(found), clone_fields(kl)


def train(
    job: Job,
    model: Any,
    metrics_file: Path,
    report: Report,
    checkpoints: Checkpoints | None = None,
    snapshots: Snapshots | None = None,
    until: int | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Train `model` in place; returns the last step's metrics and the costs. Every step goes to `metrics_file`.

    With `checkpoints`, it goes on from the newest, bit for bit as if it had never stopped. After `until` steps it
    stops with one, on the way of the whole training: neither schedule nor order of rows depend on it.

    Raises:
        UserError: the loss at step 0 is not what it must be at policy = reference.
        VariantFailed: the loss or its gradient became NaN or infinite; the weights are those before that step.
        Interrupted: a signal asked it to stop, which it did between two steps, with a checkpoint.
    """
    accelerator = accelerator_for(job, metrics_file.parent)
    if checkpoints and accelerator.distributed_type is DistributedType.DEEPSPEED:  # its moments lie in flat shards
        checkpoints.say("DeepSpeed: no checkpoints of the training; if it is stopped, the variant starts over")
        checkpoints = None
    scorer, optimizer = _prepared(job, model, accelerator)
    policy = accelerator.unwrap_model(scorer).model
    parts = Parts(policy, optimizer.optimizer, job.live if job.train.sync_reference else None)
    at, plan = _start(job, parts, metrics_file, checkpoints, accelerator), job.steps
    start, say = time.monotonic() - at.seconds, checkpoints.say if checkpoints else print
    if at.step:
        report(at.step * job.train.batch, len(plan) * job.train.batch, StepNote(at.step, len(plan)))
    target = metrics_file if accelerator.is_main_process else Path(os.devnull)
    with (
        target.open("a" if at.step else "w", encoding="utf-8") as log,
        defer_signals(checkpoints is not None) as stop,
        _tracked(accelerator),
    ):
        for step, rows in enumerate(plan[at.step : until], at.step):
            trial = replace(job, halvings=at.halvings)
            (metrics, state), halvings = _step(
                trial, scorer, optimizer, accelerator, step, len(plan), rows, at.state, say
            )
            log.write(json.dumps(metrics) + "\n")
            log.flush()
            at = Point(step + 1, time.monotonic() - start, log.tell(), metrics, state, halvings)
            accelerator.log(metrics, step=at.step)
            report(at.step * job.train.batch, len(plan) * job.train.batch, StepNote(at.step, len(plan), metrics))
            if snapshots is not None:
                snapshots.take(policy, at.step, len(plan))
            if checkpoints is not None:
                _keep(checkpoints, parts, at, len(plan), log, stop, accelerator)
        if until is not None and checkpoints is not None:
            os.fsync(log.fileno())
            checkpoints.write(parts, at, main=accelerator.is_main_process)
    costs = costs_of(job, policy, at.seconds, sum(p.numel() for p in policy.parameters() if p.requires_grad))
    return at.metrics, costs | {"memory_halvings": float(at.halvings)}


@contextmanager
def _tracked(accelerator: Accelerator) -> Iterator[None]:
    """However training ends, its trackers do: the next variant starts its own."""
    try:
        yield
    finally:
        for tracker in accelerator.trackers:  # not end_training(): it also ends the process group
            tracker.finish()


def accelerator_for(job: Job, folder: Path) -> Accelerator:
    """The device or devices that train, and the recipe's trackers; raises UserError where they do not suit the job."""
    process_state()  # before Accelerate joins them, with less patience
    accelerator = Accelerator(mixed_precision="no", log_with=job.train.trackers or None, project_dir=folder)
    if job.train.trackers:
        run = {"name": folder.name, "group": folder.parent.name}  # where a tracker has room for both
        settings = {"loss": job.loss.name, **job.params.model_dump()}
        accelerator.init_trackers("prefzoo", settings, {"wandb": run, "trackio": {"name": folder.name}})
    if parse_flag_from_env("ACCELERATE_USE_FSDP") and accelerator.distributed_type is not DistributedType.FSDP:
        raise UserError("fsdp: Accelerate shards over GPUs alone; launch with recipes/accelerate/ddp.yaml")
    if accelerator.distributed_type is DistributedType.DEEPSPEED:  # it divides, clips and steps by its own settings
        accelerator.state.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": max(1, job.train.batch // accelerator.num_processes),
            "gradient_clipping": job.train.max_grad_norm,
            "zero_allow_untested_optimizer": True,
        }
    if job.train.batch % accelerator.num_processes:
        raise UserError(
            f"train.batch: {job.train.batch} pairs cannot be dealt evenly to {accelerator.num_processes} processes; "
            "choose a multiple"
        )
    return accelerator


def _prepared(job: Job, model: Any, accelerator: Accelerator) -> tuple[Any, Any]:
    enable_gradient_checkpointing(job, model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=job.train.learning_rate, weight_decay=job.train.weight_decay, fused=True)
    scorer = Scorer(model, kind_of(job.loss, "policy"), job.live if job.loss.needs_kl else None)
    scorer, optimizer = accelerator.prepare(scorer, optimizer)
    if accelerator.distributed_type is DistributedType.DEEPSPEED:  # else the next model is loaded in shards (ZeRO-3)
        unset_hf_deepspeed_config()
    scorer.train()
    return scorer, optimizer


def enable_gradient_checkpointing(job: Job, model: Any) -> None:
    """Let a model compute its activations twice, with `train.gradient_checkpointing`."""
    if job.train.gradient_checkpointing:
        renamed = getattr(model, "activation_checkpointing_enable", None)  # where the other is deprecated
        (renamed or model.gradient_checkpointing_enable)({"use_reentrant": False})


def _start(
    job: Job, parts: Parts, metrics_file: Path, checkpoints: Checkpoints | None, accelerator: Accelerator
) -> Point:
    """The newest checkpoint's point, with the metrics cut to its steps, or the beginning."""
    metrics_file.parent.mkdir(parents=True, exist_ok=True)
    beginning = Point(state=job.loss.start())
    if checkpoints is None:
        return beginning
    newest = broadcast(checkpoints.newest(metrics_file) if accelerator.is_main_process else None)
    if newest is None:
        return beginning
    found = load(newest, parts, beginning.state, accelerator.device)
    if accelerator.is_main_process:
        os.truncate(metrics_file, found.logged)
    checkpoints.say(f"going on after step {found.step} of {len(job.steps)}")
    return found


def _step(
    job: Job, scorer: Any, optimizer: Any, accelerator: Accelerator, step: int, steps: int, rows: list[int], state: Any,
    say: Callable[[str], None],
) -> tuple[Stepped, int]:  # fmt: skip
    """One optimiser step (from 0): its metrics, the loss's next state, and how often passes were halved by now."""
    rate = job.train.learning_rate * schedule(job.train, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    seed = seed_of(job.seed, step, accelerator.process_index)
    (metrics, state), halvings = backward_with_oom_retry(
        job, scorer, accelerator, step, rows, state, seed=seed, say=say
    )
    check_loss(job, step, metrics["loss"])
    clipped = accelerator.clip_grad_norm_(scorer.parameters(), job.train.max_grad_norm)
    norm = float(gather_full_tensor(torch.as_tensor(clipped)))
    finite(job, "gradient's norm", norm, step)
    optimizer.step()
    optimizer.zero_grad()
    _sync(job, accelerator.unwrap_model(scorer).model, step + 1)
    return (metrics | {"grad_norm": norm, "learning_rate": rate, "step": step + 1}, state), halvings


def seed_of(*parts: int) -> int:
    """Dropout's: each step and process has its own, so that a resumed run need not know what was drawn before."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def _keep(
    checkpoints: Checkpoints, parts: Parts, at: Point, steps: int, log: TextIO, stop: StopRequest,
    accelerator: Accelerator,
) -> None:  # fmt: skip
    """A checkpoint where one is due; raises Interrupted where a signal came, to whichever process."""
    due, signum = int(checkpoints.due() and accelerator.is_main_process), stop.signum
    if accelerator.num_processes > 1:
        asked = torch.tensor([[due, signum]], device=accelerator.device)
        due, signum = (int(v) for v in accelerator.gather(asked).amax(0))
    if not (signum or due):
        return
    if accelerator.is_main_process:
        os.fsync(log.fileno())
    checkpoints.write(parts, at, main=accelerator.is_main_process)
    if signum:
        raise Interrupted(signum, f"stopped after step {at.step} of {steps}; the same command goes on from there")


@torch.no_grad()
def _sync(job: Job, model: Any, step: int) -> None:
    """Move the live reference towards the policy every so many steps (TR-DPO, Gorbatovski 2024, arXiv:2404.09656)."""
    how = job.train.sync_reference
    if how is not None and job.live is not None and step % how.every == 0:
        for theirs, ours in zip(job.live.parameters(), model.parameters(), strict=True):
            theirs.lerp_(gather_full_tensor(ours).to(theirs.dtype), how.alpha)


def check_trackers(names: Sequence[str]) -> None:
    """Raises UserError, a line per name that is no tracker of Accelerate's, or whose package is missing."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    usable, known = [str(n) for n in get_available_trackers()], [str(n) for n in LOGGER_TYPE_TO_CLASS]
    wrong = [n for n in names if n not in usable]
    if wrong:
        raise UserError(
            f"train.trackers: {n!r} needs its package; pip install {n}"
            if n in known
            else f"train.trackers: no tracker {n!r}{did_you_mean(n, known)}; known are {', '.join(sorted(known))}"
            for n in wrong
        )


def schedule(train: Train, step: int, steps: int) -> float:
    """Share of the learning rate at `step` (from 0): linear warm-up, then constant, linear or cosine."""
    warm = math.ceil(train.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[train.schedule]


def finite(job: Job, what: str, value: float, step: int) -> None:
    """Raises VariantFailed for a value that is no number."""
    if not math.isfinite(value):
        raise VariantFailed(
            f"{job.loss.name}: the {what} is {value} at step {step + 1}; lower train.learning_rate or the loss's scale",
            step + 1,
        )


def check_loss(job: Job, step: int, loss: float) -> None:
    """Raises VariantFailed for a loss that is no number, UserError for a wrong one at policy = reference."""
    finite(job, "loss", loss, step)
    if step == 0 and job.loss.at_reference is not None:
        expected = job.loss.at_reference(job.params)
        allowed = (0.02 if job.bf16 else 1e-3) * abs(expected)
        if abs(loss - expected) > allowed:
            raise UserError(
                f"{job.loss.name}: the first loss is {loss:.6f}, but at policy = reference it must be {expected:.6f}; "
                "policy and reference are scored differently (dropout, other weights, or a stale cache)"
            )


def costs_of(job: Job, model: Any, seconds: float, trained: int) -> dict[str, float]:
    """What a training took: see `runs.RunResult`."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    return {
        "seconds": seconds,
        "pairs_per_second": len(job.steps) * job.train.batch / seconds,
        "peak_memory_bytes": float(peak),
        "trained_parameters": float(trained),
        **work_of(job, model, seconds),
    }
