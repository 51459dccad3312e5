"""The untrained model of a run, and the policies that start from it.

It is in memory while it is read, and where there is room also in between: the next policy is then a copy of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate import DistributedType

from prefzoo.engine import models
from prefzoo.engine.fast_paths import switch_dropout_off
from prefzoo.engine.frozen_bf16 import cast_frozen_layers
from prefzoo.engine.model_originals import Original
from prefzoo.engine.precision import native_bf16
from prefzoo.engine.sharded_model import shard_model
from prefzoo.recipe.sections import Train
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.memory import release_memory


class Base:
    """The untrained model, loaded when it is first read, and again after `drop`.

    A policy is trained in the memory that it took, unless there is room for both.

    Attributes:
        config: its configuration, once it was loaded; else None.
        room: bytes that it may take beside trainings; 0: none, so that each policy is loaded.
        may_stay: whether it is to be given any.
    """

    def __init__(
        self, load: Callable[[], Any], *, frozen_bf16: bool = False, loaded: Any = None, sharded: bool = False
    ) -> None:
        """Load nothing yet.

        Args:
            load: returns the model, in evaluation mode.
            frozen_bf16: whether the model is read under autocast to bf16 only, so that its linear layers may be stored
                in bf16.
            loaded: a model that `load` returned before, for the first reading.
            sharded: whether the model is spread over all processes while it is read.
        """
        self._load, self._frozen_bf16, self._loaded, self._sharded = load, frozen_bf16, loaded, sharded
        self._model: Any = None
        self._answering: Any = None  # the model or a copy of it, in the precision of answers
        self._original: Original | None = None  # of a model that may stay
        self._bytes = 0  # that it takes then; 0 as long as that is not known
        self.room, self.may_stay, self.config = 0.0, True, getattr(loaded, "config", None)

    @property
    def model(self) -> Any:
        """The model, frozen, on this process's device; a `ShardedModel` if it is sharded."""
        if not self._sharded and self._answering is self._model is not None and self._model.dtype != torch.float32:
            self.drop()  # its weights were rounded
        if self._model is None:
            model = self._frozen()
            self._model = shard_model(model) if self._sharded else _on_device(model)
        return self._model

    @property
    def size(self) -> int:
        """How many parameters the model has."""
        return sum(p.numel() for p in self._any.parameters())

    @property
    def modules(self) -> list[str]:
        """The last parts of its modules' names, by which adapters name their targets."""
        return sorted({path.rpartition(".")[2] for path, _ in self._any.named_modules()})

    @property
    def _any(self) -> Any:
        """The model, cast or not: before it is read, it is not decided whether it stays."""
        return self.model if self._loaded is None else self._loaded

    @property
    def whole(self) -> Any:
        """The model, frozen, all of it on this process's device."""
        return _on_device(self._frozen()) if self._sharded else self.model

    @property
    def answering(self) -> Any:
        """The model in the precision for generating answers: bf16 if the machine supports it."""
        if self._answering is None and not native_bf16():
            self._answering = self.model
        elif self._answering is None:
            copy = self._load() if self._sharded else self.copy()
            low = (self.model if copy is None else copy.requires_grad_(False)).to(torch.bfloat16)
            self._answering = shard_model(low) if self._sharded else low
        return self._answering

    def take(self) -> Any:
        """Return the whole model, frozen, to the caller, who may change it; the next reading gives another one."""
        copy = self.copy()
        if copy is not None:
            return copy.requires_grad_(False)
        model = self.whole
        self.drop()
        return model

    def copy(self) -> Any:
        """Return a new model as it was loaded, to be trained: a copy of the one in memory; None without `room`."""
        if not self.room or self._sharded or self._bytes > self.room:
            return None
        model = self.model
        if self._original is not None:
            return self._original.copy(model)
        self.drop()  # it was read without room, or takes more
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
        """Release the model's memory until it is read again, unless it has `room` beside a training."""
        if self._original is None or self._bytes > self.room:
            self.drop()

    def drop(self) -> None:
        """Release the model's memory until it is read again."""
        self._model = self._loaded = self._answering = self._original = None
        release_memory()

    def give_up(self) -> bool:
        """Release the model's memory, and stay beside no training from now on; return whether it stayed until now."""
        held, self.room, self.may_stay = bool(self.room) and self._model is not None, 0.0, False
        self.drop()
        return held


def _on_device(model: Any) -> Any:
    device = process_state().device
    return model if model.device.type == device.type else model.to(device)  # a quantised one stays


def load_policy(load: Callable[[str | None], Any], train: Train, *, bf16: bool, seed: int) -> Any:
    """Return a policy to be trained: all weights, or a fresh adapter on frozen ones.

    Args:
        load: returns the untrained model, quantised as its argument says (None: not at all).
        train: says whether there is an adapter, and its shape.
        bf16: whether the policy is trained under autocast to bf16; frozen linear layers are then stored in bf16.
        seed: of the adapter's weights.

    Returns:
        the model; its parameters that require gradients are to be trained.
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
