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
        """Stands for the module; every name that is read from it is looked up once."""

        def __getattr__(self, name: str) -> Any:
            import torch as real

            value = getattr(real, name)
            setattr(self, name, value)
            return value

    torch = _Torch()
