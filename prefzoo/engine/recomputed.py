"""Compute outputs of norms and gates again in the backward pass instead of saving them.

They are a third of the memory that a decoder's layers save, and computing them again takes a few small kernels, because
their inputs are saved anyway. When autograd is asked to save such an output, a function that computes it is saved
instead; its result is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

DEVICES = ("cuda",)  # where memory is scarce; on CPUs, computing again costs more time
Compute = Callable[[], Tensor]


class _Recomputation:
    """A function that computes an output again; all layers that saved the output share its result."""

    def __init__(self, compute: Compute, output: Tensor) -> None:
        self._compute = compute
        self._value: Tensor | None = None
        self.dtype, self.size, self.version = output.dtype, output.numel(), output._version

    def describes(self, tensor: Tensor) -> bool:
        """Return whether a tensor in the output's memory is the whole output, unchanged since it was computed."""
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


_recomputations: WeakKeyDictionary[Any, _Recomputation] = WeakKeyDictionary()  # by the outputs' memory
_active: list[bool] = []  # an entry for each open context


@contextmanager
def recomputed(device: torch.device) -> Iterator[None]:
    """Save no outputs of norms and gates for the backward pass of operations within this context.

    Args:
        device: Device of the operations; on a CPU, the context changes nothing.
    """
    if device.type not in DEVICES:
        yield
        return
    with saved_tensors_hooks(pack, _unpack):
        _active.append(True)
        try:
            yield
        finally:
            _active.pop()


def recomputable(output: Tensor, compute: Compute) -> Tensor:
    """Register a function that computes an output again, and return the output.

    Args:
        output: The output; it must not be changed in place.
        compute: Computes the output from tensors that the backward pass needs anyway.

    Returns:
        The output.
    """
    if _active and output.requires_grad and output.is_contiguous():
        _recomputations[output.untyped_storage()] = _Recomputation(compute, output)
    return output


def pack(tensor: Tensor) -> Any:
    """Return what autograd saves for a tensor: its values, or its recomputation and shape."""
    recomputation = _recomputations.get(tensor.untyped_storage())
    if recomputation is None or not recomputation.describes(tensor):
        return tensor.detach()  # an output would hold the graph that holds it, for good if there is no backward pass
    return recomputation, tensor.shape


def _unpack(saved: Any) -> Tensor:
    if isinstance(saved, Tensor):
        return saved
    recomputation, shape = saved
    value: Tensor = recomputation.value().view(shape)
    return value
