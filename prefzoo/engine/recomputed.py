"""Outputs of norms and gates that the backward pass computes again instead of reading them from memory.

They are a third of what a decoder's layers keep, and cost a few small kernels: their inputs are kept anyway. A layer
that reads one of them asks autograd to keep it; what is kept in its place is how to compute it, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

DEVICES = ("cuda",)  # where memory is dear; on CPUs it costs time
Compute = Callable[[], Tensor]


class _Recipe:
    """How to compute an output again; all who kept it share the result while one of them needs it."""

    def __init__(self, compute: Compute, output: Tensor) -> None:
        self._compute = compute
        self._value: Tensor | None = None
        self.dtype, self.size, self.version = output.dtype, output.numel(), output._version

    def describes(self, tensor: Tensor) -> bool:
        """Return whether a tensor in the output's memory is the whole of it, as it was computed."""
        return (
            tensor.dtype == self.dtype and tensor.numel() == self.size and tensor.is_contiguous()
            and tensor._version == self.version
        )  # fmt: skip

    def value(self) -> Tensor:
        """Return the output."""
        if self._value is None:
            with torch.no_grad():
                self._value = self._compute()
        return self._value


_recipes: WeakKeyDictionary[Any, _Recipe] = WeakKeyDictionary()  # by the outputs' memory
_open: list[bool] = []


@contextmanager
def recomputed(device: torch.device) -> Iterator[None]:
    """Keep no outputs of norms and gates for the backward pass of what is computed within this context.

    Args:
        device: Where it is computed; on a CPU the context changes nothing.
    """
    if device.type not in DEVICES:
        yield
        return
    with saved_tensors_hooks(pack, _unpack):
        _open.append(True)
        try:
            yield
        finally:
            _open.pop()


def recomputable(output: Tensor, compute: Compute) -> Tensor:
    """Note how an output is computed, and return it.

    Args:
        output: The output, which nothing changes in place.
        compute: Computes it again from tensors that the backward pass needs in any case.

    Returns:
        The output.
    """
    if _open and output.requires_grad and output.is_contiguous():
        _recipes[output.untyped_storage()] = _Recipe(compute, output)
    return output


def pack(tensor: Tensor) -> Any:
    """Return what autograd keeps of a tensor: the tensor, or how to compute it and its shape."""
    recipe = _recipes.get(tensor.untyped_storage())
    return tensor if recipe is None or not recipe.describes(tensor) else (recipe, tensor.shape)


def _unpack(kept: Any) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    recipe, shape = kept
    value: Tensor = recipe.value().view(shape)
    return value
