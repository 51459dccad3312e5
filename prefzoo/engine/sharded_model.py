"""Shard the weights of a frozen model over all processes, if the launch's profile asks for it (FSDP2)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import Accelerator, DistributedType
from accelerate.utils import parse_flag_from_env
from torch import nn

from prefzoo.errors import UserError
from prefzoo.runtime.distributed import process_state

R = TypeVar("R")
FSDP2 = "2"
NEEDS_GPUS = "fsdp: Accelerate shards models over GPUs only; launch with recipes/accelerate/ddp.yaml"


class ShardedModel(nn.Module):
    """A frozen model of which each process holds a part; its layers are gathered one by one during a forward pass.

    All processes must run it at the same time, and equally often.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config, self.generation_config = model.config, model.generation_config
        self._no_split_modules = getattr(model, "_no_split_modules", None)  # Accelerate shards by these modules
        self._can_compile_fullgraph = getattr(model, "_can_compile_fullgraph", False)  # for static caches

    def forward(self, work: Callable[[Any], R]) -> R:
        """Return `work(model)`; the weights outside the layers are gathered meanwhile."""
        return work(self.model)

    @property
    def device(self) -> Any:
        """Device on which the model computes."""
        return process_state().device

    @property
    def dtype(self) -> Any:
        """Precision of the weights, as of a transformers model."""
        return self.model.dtype


def are_models_sharded() -> bool:
    """Return whether the launch shards models over several processes, by a profile with FSDP2."""
    by_profile = parse_flag_from_env("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION") == FSDP2
    return by_profile and process_state().num_processes > 1


def shard_model(model: Any) -> ShardedModel:
    """Shard a frozen model over all processes, as training shards a policy; all processes must call this.

    Args:
        model: A causal language model, whole in every process; it is changed in place. Weights that are views of a
            file are read from the file layer by layer.

    Returns:
        The sharded model.

    Raises:
        UserError: There are no accelerators to shard over.
    """
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    accelerator = Accelerator(mixed_precision="no")
    if accelerator.distributed_type is not DistributedType.FSDP:
        raise UserError(NEEDS_GPUS)
    sharded = ShardedModel(model.requires_grad_(False))
    fsdp2_prepare_model(accelerator, sharded)  # in place
    return sharded


def read(model: Any, work: Callable[[Any], R]) -> R:
    """Return `work(model)` for a whole or sharded model; if it is sharded, all processes must call this."""
    return model(work) if isinstance(model, ShardedModel) else work(model)
