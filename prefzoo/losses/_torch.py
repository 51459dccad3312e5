"""torch for the losses, imported when a loss is first computed: listing losses or reading a recipe needs none of it.

A module of losses imports `Tensor`, `torch`, `logsigmoid` and `relu` from here instead of from torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Tensor", "logsigmoid", "relu", "torch"]

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn.functional import logsigmoid, relu
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

    def logsigmoid(x: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(x)

    def relu(x: Tensor) -> Tensor:
        return torch.nn.functional.relu(x)
