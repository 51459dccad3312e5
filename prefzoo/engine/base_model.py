"""The untrained model of a run, and the policies that start from it.

The model is in memory while it is used. If there is room, it also stays there between uses, and the next policy is a
copy of it instead of a new load from disk.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from accelerate import DistributedType

from prefzoo.engine import models
from prefzoo.engine.fast_paths import switch_dropout_off
from prefzoo.engine.frozen_bf16 import cast_frozen_layers
from prefzoo.engine.model_originals import Original
from prefzoo.engine.precision import native_bf16, to_bf16
from prefzoo.engine.sharded_model import shard_model
from prefzoo.recipe.sections import Train
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.memory import release_memory


class Base:
    """The untrained model, loaded at its first use, and again at the first use after `drop`.

    A policy is trained in the memory that this model took, unless there is room for both.

    Attributes:
        config: The model's configuration; None before the first load.
        room: Bytes that the model may take during trainings; with 0, it is dropped and each policy is loaded from disk.
        may_stay: Whether the model may be given `room`.
    """

    def __init__(
        self, load: Callable[[], Any], *, frozen_bf16: bool = False, loaded: Any = None, sharded: bool = False
    ) -> None:
        """Store the settings; the model is loaded later.

        Args:
            load: Returns the model, in evaluation mode.
            frozen_bf16: Whether the model is only used under autocast to bf16, so that its linear layers may be stored
                in bf16.
            loaded: A model that `load` has returned already, for the first use.
            sharded: Whether the model is sharded over all processes while it is used.
        """
        self._load, self._frozen_bf16, self._loaded, self._sharded = load, frozen_bf16, loaded, sharded
        self._model: Any = None
        self._answering: Any = None  # the model or a copy of it, in the precision of generation
        self._original: Original | None = None  # for copies of a model that may stay in memory
        self._bytes = 0  # memory that the model takes if it stays; 0 while unknown
        self.room, self.may_stay, self.config = 0.0, True, getattr(loaded, "config", None)

    @property
    def model(self) -> Any:
        """The model, frozen, on this process's device; a `ShardedModel` if it is sharded."""
        if not self._sharded and self._answering is self._model is not None and self._model.dtype != torch.float32:
            self.drop()  # its weights were rounded to generate answers
        if self._model is None:
            model = self._frozen()
            self._model = shard_model(model) if self._sharded else _on_device(model)
        return self._model

    @property
    def size(self) -> int:
        """Number of the model's parameters."""
        return sum(p.numel() for p in self._any.parameters())

    @property
    def modules(self) -> list[str]:
        """Last parts of the modules' names, sorted; an adapter's targets are named by them."""
        return sorted({path.rpartition(".")[2] for path, _ in self._any.named_modules()})

    @property
    def _any(self) -> Any:
        """The model in memory; before its first use it is not cast, because whether it may stay is not decided yet."""
        return self.model if self._loaded is None else self._loaded

    @property
    def whole(self) -> Any:
        """The whole frozen model on this process's device, even if `model` is sharded."""
        return _on_device(self._frozen()) if self._sharded else self.model

    @property
    def answering(self) -> Any:
        """The model in the precision for generating answers: bf16 if the machine supports it."""
        if self._answering is None and not native_bf16():
            self._answering = self.model
        elif self._answering is None:
            copy = self._load() if self._sharded else self.copy()
            low = to_bf16(self.model if copy is None else copy.requires_grad_(False))
            self._answering = shard_model(low) if self._sharded else low
        return self._answering

    def take(self) -> Any:
        """Return the whole frozen model, which the caller may change; the next use of this object gets another one."""
        copy = self.copy()
        if copy is not None:
            return copy.requires_grad_(False)
        model = self.whole
        self._forget()
        return model

    def copy(self) -> Any:
        """Return a copy of the model as it was loaded, to be trained, or None without `room` for it."""
        if not self.room or self._sharded or self._bytes > self.room:
            return None
        model = self.model
        if self._original is not None:
            return self._original.copy(model)
        self.drop()  # it was loaded without room, or needs more than it has
        return None

    def _frozen(self) -> Any:
        model, self._loaded = self._load() if self._loaded is None else self._loaded, None
        self.config = model.config
        original = Original(model, casts=self._frozen_bf16) if self.room and not self._sharded else None
        model.requires_grad_(False)
        if self._frozen_bf16 and not cast_frozen_layers(model):
            self._frozen_bf16, model = False, self._load().float()
            original = Original(model, casts=False) if original else None
            model.requires_grad_(False)
        if original is not None:
            original.trim(model)
            self._bytes = original.size(model)
        self._original = original if self._bytes <= self.room else None
        return model

    def release(self) -> None:
        """Release the model's memory until its next use, unless it has `room` during trainings."""
        if self._original is None or self._bytes > self.room:
            self.drop()

    def drop(self) -> None:
        """Release the model's memory until its next use."""
        held = [weakref.ref(model) for model in (self._model, self._loaded, self._answering) if model is not None]
        self._forget()
        # the collector visits every object of the process, half a second; mostly the last reference frees a model
        release_memory(collect=any(model() is not None for model in held))

    def _forget(self) -> None:
        self._model = self._loaded = self._answering = self._original = None

    def give_up(self) -> bool:
        """Release the model's memory, and no longer let it stay in memory during trainings.

        Returns:
            Whether the model stayed in memory until now.
        """
        held, self.room, self.may_stay = bool(self.room) and self._model is not None, 0.0, False
        self.drop()
        return held


def _on_device(model: Any) -> Any:
    device = process_state().device
    return model if model.device.type == device.type else model.to(device)  # a quantised model must not be moved


def load_policy(load: Callable[[str | None], Any], train: Train, *, bf16: bool, seed: int) -> Any:
    """Load a policy to be trained: all of its weights, or a new LoRA adapter on frozen weights.

    Args:
        load: Returns the untrained model; its argument is the kind of quantisation, or None.
        train: Settings of the training, which include the adapter's.
        bf16: Whether the policy is trained under autocast to bf16; frozen linear layers are then stored in bf16.
        seed: Seed of the adapter's weights.

    Returns:
        The policy; the parameters that are trained require gradients.
    """
    if train.lora is None:
        return _loaded(load, train)
    lora = train.lora.model_dump(exclude={"quantize"})
    model = models.add_lora(_loaded(load, train, train.lora.quantize), **lora, seed=seed)
    keeps_dtypes = train.lora.quantize or process_state().distributed_type is DistributedType.DEEPSPEED
    if not bf16 or keeps_dtypes or cast_frozen_layers(model):
        return model
    return models.add_lora(_loaded(load, train).float(), **lora, seed=seed)


def _loaded(load: Callable[[str | None], Any], train: Train, quantize: str | None = None) -> Any:
    model = load(quantize)
    if train.dropout == "off":
        switch_dropout_off(model)
    return model
