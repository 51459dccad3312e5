"""Which LoRA variants train together in one pass, as adapters on one frozen base: see `multi_lora`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefzoo.training.job import Job, moves_reference
from prefzoo.training.passes import token_budget


def group_trials(jobs: Mapping[str, Job], device: str, processes: int) -> tuple[list[list[str]], list[str]]:
    """Decide which variants or trials train together.

    Those may that see the same rows in the same order (seed, batch, steps) and share precision, pass limits and the
    shape of their adapters; loss, learning rate and all else of the optimiser are each one's own. As many go together
    as have their whole steps in the tokens of one pass, so that memory stays that of one variant.
    `train.side_by_side: on` also groups those that need several passes.

    Args:
        jobs: what is to be trained, by name; all on the same pairs.
        device: type of the device that trains them.
        processes: how many processes train each of them.

    Returns:
        the groups, in the order of their first names; and a line for each variant that was asked to train in a group
        but cannot.
    """
    shapes: dict[Any, list[str]] = {}
    notes = []
    for name, job in jobs.items():
        reason = _why_alone(job, device, processes)
        if reason and job.train.side_by_side == "on":
            notes.append(f"{name}: train.side_by_side: {reason}; trained alone")
        shapes.setdefault((name,) if reason else _shape(job), []).append(name)
    groups = [group for names in shapes.values() for group in _split({n: jobs[n] for n in names}, device)]
    return sorted(groups, key=lambda group: list(jobs).index(group[0])), notes


def _split(jobs: Mapping[str, Job], device: str) -> list[list[str]]:
    """Split variants of one shape into groups of as many as there is room for."""
    first = next(iter(jobs.values()))
    whole, room = _whole_steps(first, device), max(1, _room(first, device))
    parts = [list(jobs)]
    if first.train.micro_batch is not None or min(len(jobs), room) > whole:  # coupled rows are then scored twice
        parts = [[name for name, job in jobs.items() if bool(job.loss.couples) == couples] for couples in (False, True)]
    return [part[i : i + room] for part in parts for i in range(0, len(part), room)]


def _why_alone(job: Job, device: str, processes: int) -> str:
    """Return why a variant cannot share its passes; an empty string if it can."""
    train = job.train
    if train.side_by_side == "off":
        return "is off"
    if train.lora is None:
        return "needs train.lora"
    if train.lora.quantize:
        return "does not know quantised weights"
    if processes > 1:
        return "is for one process"
    if moves_reference(job):
        return "does not know a reference that moves (train.sync_reference)"
    if _room(job, device) < 2:  # noqa: PLR2004 - two variants
        return "two variants' steps do not fit in one pass, and dropout would differ in several; raise train.tokens"
    return ""


def _shape(job: Job) -> tuple[Any, ...]:
    """Return what all variants of a group have in common."""
    train = job.train
    lora = None if train.lora is None else train.lora.model_dump_json()
    limits = train.micro_batch, train.tokens, train.gradient_checkpointing, train.side_by_side
    live = job.other_reference if job.loss.needs_kl else ""  # one model's KL is taken for all of a group
    return job.seed, train.batch, len(job.steps), job.bf16, lora, limits, live


def _whole_steps(job: Job, device: str) -> int:
    """Return how many variants' whole steps fit in the tokens of one pass."""
    return token_budget(job.train, device) // max(sum(job.pairs[i].total_tokens for i in rows) for rows in job.steps)


def _room(job: Job, device: str) -> int:
    """Return how many variants may go together."""
    whole = _whole_steps(job, device)
    if job.train.side_by_side == "auto" or (job.train.lora is not None and job.train.lora.dropout):
        return whole
    longest = max(job.pairs[i].total_tokens for rows in job.steps for i in rows)
    return max(2, whole, token_budget(job.train, device) // longest)
