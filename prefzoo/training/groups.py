"""Group LoRA variants that train in one pass, as adapters on one frozen base: see `multi_lora`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefzoo.training.job import Job, moves_reference, steps_of
from prefzoo.training.passes import token_budget

WHOLE_STEPS = ("cpu",)  # devices where several small passes are no faster together than one large pass alone


def group_trials(jobs: Mapping[str, Job], device: str, processes: int) -> tuple[list[list[str]], list[str]]:
    """Group the variants or trials that train together.

    A group sees the same rows in the same order (seed, batch, steps) and shares precision, pass limits and the shape of
    the adapters. Loss, optimiser settings and the adapter's alpha may differ. A pass has no more tokens than that of
    one variant, and the group shares it. On CPUs a group is as large as whole steps fit into a pass; on GPUs, and with
    `train.side_by_side: on`, as one pair of each variant fits.

    Args:
        jobs: what is to be trained, by name; all on the same pairs.
        device: type of the device that trains them.
        processes: how many processes train each of them.

    Returns:
        the groups, in the order of their first names; and a line for each variant that was asked to train in a group
        but cannot.
    """
    reasons = {name: _why_alone(job, device, processes) for name, job in jobs.items()}
    shapes = {name: _shape(job) for name, job in jobs.items()}
    alike: dict[Any, list[str]] = {}
    for name, reason in reasons.items():
        alike.setdefault((name,) if reason else tuple(shapes[name].values()), []).append(name)
    groups = [group for names in alike.values() for group in _split({n: jobs[n] for n in names}, device)]
    single = {group[0] for group in groups if len(group) == 1}
    notes = []
    for name, job in jobs.items():
        if job.train.side_by_side == "on" and name in single:
            reason = reasons[name] or _why_single(name, jobs, shapes)
            notes += [f"{name}: train.side_by_side: {reason}; trained alone"] if reason else []
    return sorted(groups, key=lambda group: list(jobs).index(group[0])), notes


def _split(jobs: Mapping[str, Job], device: str) -> list[list[str]]:
    """Split variants of one shape into groups as large as fit."""
    first = next(iter(jobs.values()))
    if len(jobs) == 1:
        return [list(jobs)]
    whole, room = _whole_steps(first, device), max(1, _room(first, device))
    if first.train.micro_batch is None and min(len(jobs), room) <= whole:
        return _parts(list(jobs), room)
    # coupled rows are scored twice where a step has several passes: the others are not to be scored twice with them
    coupled = [name for name, job in jobs.items() if job.loss.couples]
    auto = first.train.side_by_side == "auto"
    return [
        *_parts([name for name in jobs if name not in coupled], room),
        *_parts(coupled, max(1, min(room, whole)) if auto else room),
    ]


def _parts(names: Sequence[str], most: int) -> list[list[str]]:
    return [list(names[i : i + most]) for i in range(0, len(names), most)]


def _why_alone(job: Job, device: str, processes: int) -> str:
    """Return why a variant cannot share its passes; an empty string if it can."""
    train = job.train
    if train.side_by_side == "off":
        return "is off"
    if train.lora is None:
        return "needs train.lora"
    if train.lora.quantize:
        return "does not support quantised weights"
    if processes > 1:
        return "is for one process"
    if moves_reference(job):
        return "does not support a reference that moves (train.sync_reference)"
    if train.dropout == "model":
        return "does not support the model's own dropout (train.dropout: model), which would differ from that alone"
    if _room(job, device) < 2:  # noqa: PLR2004 - two variants
        return "two variants' steps do not fit in one pass, and dropout would differ in several; raise train.tokens"
    return ""


def _why_single(name: str, jobs: Mapping[str, Job], shapes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return why a variant that could share its passes shares them with no other; empty if there is no similar one."""
    own, others = shapes[name], [n for n, job in jobs.items() if n != name and job.train.lora]
    unlike = {n: [key for key, value in own.items() if shapes[n][key] != value] for n in others}
    nearest = min(unlike, key=lambda n: len(unlike[n]), default=None)
    if nearest is None:
        return ""
    if unlike[nearest]:
        return f"not the same {', '.join(unlike[nearest])} as {nearest}'s"
    if jobs[name].loss.couples != jobs[nearest].loss.couples:
        return f"one of {name} and {nearest} couples the rows of a step, which has several passes"
    return "the others fill the tokens of a pass (train.tokens)"


def _shape(job: Job) -> dict[str, Any]:
    """Return the settings that all variants of a group share, by the recipe's names."""
    train, lora = job.train, job.train.lora
    adapter = {} if lora is None else lora.model_dump(exclude={"alpha"}, mode="json")
    return {
        "seed": job.seed,
        "train.batch": train.batch,
        "train.steps": steps_of(train, len(job.pairs)),
        "train.precision": job.bf16,
        **{f"train.lora.{name}": str(adapter.get(name)) for name in ("rank", "dropout", "targets")},
        "train.micro_batch": train.micro_batch,
        "train.tokens": train.tokens,
        "train.gradient_checkpointing": train.gradient_checkpointing,
        "train.side_by_side": train.side_by_side,
        "reference": job.other_reference if job.loss.needs_kl else "",  # one model's KL is taken for all of a group
    }


def _whole_steps(job: Job, device: str) -> int:
    """Return how many variants' whole steps fit in the tokens of one pass."""
    return token_budget(job.train, device) // job.largest[0]


def _room(job: Job, device: str) -> int:
    """Return how many variants may go together."""
    whole, auto = _whole_steps(job, device), job.train.side_by_side == "auto"
    if (auto and device in WHOLE_STEPS) or (job.train.lora is not None and job.train.lora.dropout):
        return whole
    return max(1 if auto else 2, whole, token_budget(job.train, device) // job.largest[1])
