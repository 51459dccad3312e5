"""Gather tensors that are split over processes (FSDP2, ZeRO-3), and split them again after reading from disk."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from accelerate import DistributedType
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def gather_full_tensor(value: Tensor) -> Tensor:
    """Return the full tensor, detached, in every process; all processes must call this."""
    if hasattr(value, "ds_id"):
        from deepspeed import zero

        with zero.GatheredParameters([value]):
            return value.detach().clone()
    return value.full_tensor().detach() if isinstance(value, DTensor) else value.detach()


def shard_like(value: Tensor, target: Tensor) -> Tensor:
    """Return this process's part of a tensor that every process holds in full, sharded like `target`."""
    value = value.to(target.device)
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)


@torch.no_grad()
def gather_state_dict(model: Any, *, main: bool) -> dict[str, Tensor] | None:
    """Return a sharded model's full weights on the CPU, or None if nothing is sharded. All processes must call this.

    Args:
        model: The model.
        main: Whether this is the main process; the others drop each weight after gathering it.

    Returns:
        The weights by name; empty tensors in all processes except the main one.
    """
    if not any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in model.parameters()):
        return None
    gathered: dict[int, Tensor] = {}  # tied weights stay one tensor, as `save_pretrained` expects them
    state = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in gathered:
            full = gather_full_tensor(value)
            gathered[id(value)] = full.cpu() if main else torch.empty(0)
        state[name] = gathered[id(value)]
    return state


def clone_fields(values: Any) -> tuple[Tensor, ...]:
    """Return copies of a dataclass's tensors: FSDP2 and DeepSpeed hook their backward pass only onto non-views."""
    return tuple(getattr(values, f.name).clone() for f in fields(values))


def sharded(accelerator: Any) -> bool:
    """Return whether processes may hold parts of the weights: False for one process or plain data parallelism."""
    whole = DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU
    return accelerator.distributed_type not in whole
