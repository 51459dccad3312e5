"""The untrained model of a run, in memory only while it is read, and the policies that start from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accelerate import DistributedType

from prefzoo.engine import models
from prefzoo.engine.frozen_bf16 import cast_frozen_layers
from prefzoo.recipe.sections import Train
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.memory import release_memory


class Base:
    """Loaded at the first need, and again after `drop`: a policy is trained in the room that it took.

    Args:
        load: gives the model, in evaluation mode.
        lean: whether it is read under autocast to bf16 alone, so that its linear layers may be kept so.
        loaded: what `load` gave already.
    """

    def __init__(self, load: Callable[[], Any], *, lean: bool = False, loaded: Any = None) -> None:
        self._load, self._lean, self._loaded, self._model = load, lean, loaded, None

    @property
    def model(self) -> Any:
        """The model, frozen, on this process's device."""
        if self._model is None:
            found, self._loaded = self._load() if self._loaded is None else self._loaded, None
            found.requires_grad_(False)
            if self._lean and not cast_frozen_layers(found):
                self._lean, found = False, self._load().requires_grad_(False)
            device = process_state().device
            self._model = found if found.device.type == device.type else found.to(device)  # a quantised one stays
        return self._model

    def drop(self) -> None:
        """Nothing reads it for now."""
        self._model = self._loaded = None
        release_memory()


def policy_of(load: Callable[[str | None], Any], how: Train, *, bf16: bool, seed: int) -> Any:
    """A policy to be trained: all weights, or a fresh adapter on frozen ones, which under bf16 are lean.

    Args:
        load: gives the model, quantised as asked.
    """
    if how.lora is None:
        return load(None)
    lora = how.lora.model_dump(exclude={"quantize"})
    model = models.add_lora(load(how.lora.quantize), **lora, seed=seed)
    unfit = how.lora.quantize or process_state().distributed_type is DistributedType.DEEPSPEED
    if not bf16 or unfit or cast_frozen_layers(model):
        return model
    return models.add_lora(load(None), **lora, seed=seed)
