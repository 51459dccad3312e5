"""Find the lines at which a process would wait for its GPU, by marking each tensor on a CPU as on the device or host.

Weights are on the device, and so are tensors that pass through pinned memory and everything computed from them. Tensors
that a program makes from its own numbers are on the host. A process waits when it reads a value of a device's tensor,
when the shape of an output depends on values on the device, or when memory that is not pinned is copied.
"""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import emulated_gpu
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prefzoo import types

SHAPE_BY_VALUES = ("nonzero", "masked_select", "_unique2", "unique_consecutive", "bincount", "_local_scalar_dense")
MADE = ("arange", "zeros", "ones", "empty", "full", "rand", "eye", "linspace", "new_")  # by a kernel, on any device


class Waits(TorchDispatchMode):
    """Record each wait with the line of the package that causes it.

    Attributes:
        lines: One line of text for each wait.
    """

    def __init__(self, on_device: Iterable[Tensor]) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._device: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
        for tensor in on_device:
            self.mark(tensor, True)

    def mark(self, tensor: Tensor, on_device: bool | None) -> Tensor:
        """Record whether a tensor is on the device; None if it may be anywhere."""
        if on_device is not None:
            self._device[tensor.untyped_storage()] = on_device
        return tensor

    def place(self, tensor: Tensor) -> bool | None:
        """Return whether a tensor is on the device; None if it may be anywhere, such as one that a kernel filled."""
        return self._device.get(tensor.untyped_storage())

    def wait(self, kind: str) -> None:
        """Record a wait at the innermost line of the package, unless an emulated kernel causes it."""
        stack = traceback.extract_stack()
        if any(frame.filename == emulated_gpu.__file__ for frame in stack):
            return
        frames = [f for f in stack if "/prefzoo/" in f.filename and "/tests/" not in f.filename]
        at = f"{frames[-1].filename.rpartition('/prefzoo/')[2]}:{frames[-1].lineno}" if frames else "elsewhere"
        self.lines.append(f"{kind} at {at}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        places = [self.place(tensor) for tensor in given]
        on_device = True in places
        if on_device and (name in SHAPE_BY_VALUES or (name.startswith("index") and self._by_flags(args))):
            self.wait(name)
        if on_device and any(own is False and tensor.ndim for own, tensor in zip(places, given, strict=True)):
            self.wait(f"{name} of a tensor that was not sent")
        result = func(*args, **(kwargs or {}))
        written = name == "lift_fresh" or not (given or name.startswith(MADE))  # from the program's own numbers
        place = True if on_device else False if written or False in places else None
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and self.place(leaf) is None:
                self.mark(leaf, place)
        return result

    @staticmethod
    def _by_flags(args: Any) -> bool:
        return any(isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1:]))


@contextmanager
def waits(model: Any) -> Iterator[Waits]:
    """Record the waits of operations on a model within this context."""
    mode = Waits([*model.parameters(), *model.buffers()])
    plain: dict[str, Callable[..., Any]] = {name: getattr(Tensor, name) for name in ("pin_memory", "cpu", "tolist")}

    def pin_memory(tensor: Tensor) -> Tensor:
        return mode.mark(tensor.clone(), True)

    def reading(name: str) -> Callable[[Tensor], Any]:
        def read(tensor: Tensor) -> Any:
            if not mode.place(tensor):
                return plain[name](tensor)
            mode.wait(name)
            return plain[name](mode.mark(tensor.clone(), False))

        return read

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(types, "PINNED", ("cpu",))
        patch.setattr(Tensor, "pin_memory", pin_memory)
        for name in ("cpu", "tolist"):
            patch.setattr(Tensor, name, reading(name))
        with mode:
            yield mode
