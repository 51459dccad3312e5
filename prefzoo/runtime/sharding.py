"""Tensors of which each process holds a part (FSDP2, ZeRO-3): made whole for the disk, and cut again when read."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def gather_full_tensor(value: Tensor) -> Tensor:
    """The full tensor, in every process; all must ask for it. What is not sharded stays as it is."""
    if hasattr(value, "ds_id"):
        from deepspeed import zero

        with zero.GatheredParameters([value]):
            return value.detach().clone()
    return value.full_tensor().detach() if isinstance(value, DTensor) else value.detach()


def shard_like(value: Tensor, target: Tensor) -> Tensor:
    """This process's part of a full tensor that all processes have, cut as `target` is."""
    value = value.to(target.device)
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)


@torch.no_grad()
def gather_state_dict(model: Any) -> dict[str, Tensor] | None:
    """The full weights of a sharded model, on the CPU; None for one that is whole as it is. All must ask for it."""
    if not any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in model.parameters()):
        return None
    same: dict[int, Tensor] = {}  # tied weights stay one tensor, as `save_pretrained` expects them
    found = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in same:
            same[id(value)] = gather_full_tensor(value).cpu()
        found[name] = same[id(value)]
    return found


def clone_fields(values: Any) -> tuple[Tensor, ...]:
    """A dataclass's tensors, none of them a view: FSDP2 and DeepSpeed hang their backward on such outputs alone."""
    return tuple(getattr(values, f.name).clone() for f in fields(values))
