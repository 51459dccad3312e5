"""What `prefzoo check` says of memory: the formulas' peak for a variant, beside what is free here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.attention import weights_kept
from prefzoo.data.batches import split
from prefzoo.data.tokens import TokenPair
from prefzoo.footprint import GIB, Kernels, Plan, footprint, shape_of
from prefzoo.sections import Train
from prefzoo.step import ELSEWHERE, TOKENS

KEPT = 1.65  # on CPUs, of the formulas' peak: the most that a process was seen to hold with what it had freed


def memory_line(model: Any, pairs: Sequence[TokenPair], train: Train, *, bf16: bool) -> str:
    """How much one process's training takes at its peak, and a warning where that is not free; empty if unknown."""
    import psutil
    import torch

    try:
        shape = shape_of(model.config)
    except (AttributeError, TypeError):
        return ""
    kernels: Kernels = "cuda" if torch.cuda.is_available() else "cpu"
    longest = sorted(range(len(pairs)), key=lambda i: -len(pairs[i].chosen) - len(pairs[i].rejected))[: train.batch]
    budget = train.tokens or TOKENS.get(kernels, ELSEWHERE)
    parts = split(pairs, longest, budget, train.micro_batch)
    blocks = [[(len(pairs[i].prompt), len(pairs[i].chosen), len(pairs[i].rejected)) for i in part] for part in parts]
    tokens = [sum(map(sum, part)) for part in blocks]
    scored = [sum(len(pairs[i].chosen) + len(pairs[i].rejected) for i in part) for part in parts]
    context = max(weights_kept(part) / count for part, count in zip(blocks, tokens, strict=True))
    plan = Plan(
        max(tokens), max(scored), context, len(parts), train.lora.rank if train.lora else None, bf16,
        train.gradient_checkpointing, kernels=kernels, held=int(kernels == "cpu"),
    )  # fmt: skip
    peak = footprint(shape, plan).peak
    most = peak * (KEPT if kernels == "cpu" else 1.0)
    free = torch.cuda.mem_get_info()[0] if kernels == "cuda" else psutil.virtual_memory().available
    more = f" (up to {most / GIB:.1f}, as what is freed may be kept)" if most > peak else ""
    said = f"about {peak / GIB:.1f} GiB of memory at the peak{more}, {free / GIB:.1f} GiB are free"
    if most > free:
        said += "; too little: set train.micro_batch: 1, train.gradient_checkpointing: true or train.lora: {rank: 16}"
    return said
