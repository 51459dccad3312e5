"""Import torch when it is first used: a command that computes no tensors never waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Tensor", "torch"]

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    Tensor = Any  # only annotations name it

    class _Torch:
        """A stand-in for the module torch, which imports it at the first use of a name and caches each name."""

        def __getattr__(self, name: str) -> Any:
            import torch as real

            value = getattr(real, name)
            setattr(self, name, value)
            return value

    torch = _Torch()
