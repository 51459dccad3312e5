"""THE loop: one for every loss, on Accelerate. Differences between losses are values, never branches."""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from pydantic import BaseModel
from torch import Tensor, nn

from prefzoo.data.batches import collate, order
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError, did_you_mean
from prefzoo.logprobs import score
from prefzoo.losses import AnyLoss
from prefzoo.progress import Report
from prefzoo.recipe import Train
from prefzoo.reference import take
from prefzoo.types import LogProbs, PairBatch


@dataclass(frozen=True)
class Job:
    """One variant to train. `reference` holds the frozen log-probs of all `pairs`, in order, or None."""

    loss: AnyLoss
    params: BaseModel
    train: Train
    seed: int
    pairs: Sequence[TokenPair]
    reference: LogProbs | None
    shared: bool
    bf16: bool


class Scorer(nn.Module):
    """The policy as a module from batch to log-probs, so that wrappers (DDP, FSDP) see one forward."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: PairBatch) -> LogProbs:
        return score(self.model, batch)


def steps_of(train: Train, pairs: int) -> int:
    """Optimiser steps: as given, else epochs over the pairs, rounded up."""
    return train.steps or math.ceil(train.epochs * pairs / train.batch)


def native_bf16() -> bool:
    """Whether this machine multiplies bf16 faster than fp32: a GPU with bf16, or a CPU with its instructions."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def use_bf16(train: Train) -> bool:
    """What `precision` means on this machine."""
    return train.precision == "bf16" or (train.precision == "auto" and native_bf16())


def train(job: Job, model: Any, metrics_file: Path, report: Report) -> tuple[dict[str, float], dict[str, float]]:
    """Train `model` in place; returns the last step's metrics and the costs. Every step goes to `metrics_file`.

    Raises:
        UserError: the loss at step 0 is not what it must be at policy = reference, or it became NaN.
    """
    accelerator = Accelerator(
        mixed_precision="no", log_with=job.train.trackers or None, project_dir=metrics_file.parent
    )
    if job.train.trackers:
        accelerator.init_trackers("prefzoo", {"loss": job.loss.name, **job.params.model_dump()})
    torch.manual_seed(job.seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=job.train.learning_rate, weight_decay=job.train.weight_decay, fused=True)
    steps = steps_of(job.train, len(job.pairs))
    scorer, optimizer = accelerator.prepare(Scorer(model), optimizer)
    scorer.train()
    start, metrics = time.monotonic(), {}
    metrics_file.parent.mkdir(parents=True, exist_ok=True)
    with metrics_file.open("w", encoding="utf-8") as log:
        for step, rows in enumerate(order(len(job.pairs), job.train.batch, steps, job.seed)):
            rate = job.train.learning_rate * schedule(job.train, step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            mine = rows[accelerator.process_index :: accelerator.num_processes]
            metrics = _backward(job, scorer, accelerator, mine)
            _check(job, step, metrics["loss"])
            norm = accelerator.clip_grad_norm_(scorer.parameters(), job.train.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            metrics |= {"grad_norm": float(norm), "learning_rate": rate, "step": step + 1}
            log.write(json.dumps(metrics) + "\n")
            log.flush()
            accelerator.log(metrics, step=step + 1)
            report((step + 1) * job.train.batch, steps * job.train.batch, f"loss {metrics['loss']:.4f}")
    seconds = time.monotonic() - start
    accelerator.end_training()
    return metrics, _costs(seconds, steps * job.train.batch, sum(p.numel() for p in trained))


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


def _backward(job: Job, scorer: Any, accelerator: Any, rows: list[int]) -> dict[str, float]:
    """Gradients of the mean loss over `rows`, micro-batch by micro-batch; the step's metrics."""
    size = job.train.micro_batch or len(rows)
    pad = accelerator.unwrap_model(scorer).model.config.pad_token_id or 0
    sums: dict[str, float] = {}
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        batch = collate([job.pairs[i] for i in part], shared=job.shared, pad=pad).to(accelerator.device)
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=job.bf16):  # as the reference was scored
            policy = cast(LogProbs, scorer(batch))
        reference = None if job.reference is None else take(job.reference, part, accelerator.device)
        each = job.loss.each(policy, reference, job.params)
        accelerator.backward(each.sum() / len(rows))
        for name, values in measures(each, policy, reference, job.params).items():
            sums[name] = sums.get(name, 0.0) + float(values.sum())
    names = sorted(sums)
    total = accelerator.reduce(torch.tensor([sums[n] for n in names], device=accelerator.device), "sum")
    count = len(rows) * accelerator.num_processes
    return {name: float(value) / count for name, value in zip(names, total, strict=True)}


def measures(each: Tensor, policy: LogProbs, reference: LogProbs | None, params: BaseModel) -> dict[str, Tensor]:
    """(B,) values under TRL's names. Rewards are beta (1 where a loss has none) times the log-ratio in nats.

    Without a reference they are beta times the mean token log-prob, as in SimPO.
    """
    beta = float(getattr(params, "beta", 1.0))
    policy = policy.detach()
    base = policy.per_token() if reference is None else policy
    chosen = beta * (base.chosen - (0 if reference is None else reference.chosen))
    rejected = beta * (base.rejected - (0 if reference is None else reference.rejected))
    return {
        "loss": each.detach(),
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).float(),
        "logps/chosen": policy.chosen,
        "logps/rejected": policy.rejected,
    }


def schedule(train: Train, step: int, steps: int) -> float:
    """Share of the learning rate at `step` (from 0): linear warm-up, then constant, linear or cosine."""
    warm = math.ceil(train.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[train.schedule]


def _check(job: Job, step: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"{job.loss.name}: the loss is {loss} at step {step + 1}; lower train.learning_rate or the loss's scale"
        )
    if step == 0 and job.loss.at_reference is not None:
        expected = job.loss.at_reference(job.params)
        allowed = (0.02 if job.bf16 else 1e-3) * abs(expected)
        if abs(loss - expected) > allowed:
            raise UserError(
                f"{job.loss.name}: the first loss is {loss:.6f}, but at policy = reference it must be {expected:.6f}; "
                "policy and reference are scored differently (dropout, other weights, or a stale cache)"
            )


def _costs(seconds: float, pairs: int, trained: int) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    return {
        "seconds": seconds,
        "pairs_per_second": pairs / seconds,
        "peak_memory_bytes": float(peak),
        "trained_parameters": float(trained),
    }
