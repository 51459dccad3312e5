"""torch for the losses, imported when a loss is first computed: listing losses or reading a recipe needs none of it.

A module of losses imports `Tensor`, `torch`, `logsigmoid` and `relu` from here instead of from torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefzoo.runtime.lazy_torch import Tensor, torch

__all__ = ["Tensor", "logsigmoid", "relu", "torch"]

if TYPE_CHECKING:
    from torch.nn.functional import logsigmoid, relu
else:

    def logsigmoid(x: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(x)

    def relu(x: Tensor) -> Tensor:
        return torch.nn.functional.relu(x)
