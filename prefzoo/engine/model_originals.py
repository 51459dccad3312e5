"""Copy a model in memory as it was loaded, even if its weights were cast since, instead of loading it again."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

PROBED = 4096  # numbers of a weight that are tested first; if bf16 holds them exactly, all are tested


class Original:
    """The data that copies of a frozen model need besides its weights: their precision, and weights that a cast rounds.

    Weights that bf16 holds exactly are not stored: cast back to fp32, they are the same numbers.
    """

    def __init__(self, model: Any, *, casts: bool) -> None:
        """Record a model's weights before they are frozen and cast.

        Args:
            model: A causal language model as it was loaded.
            casts: Whether weights are to be cast to bf16.
        """
        own = list(model.named_parameters())
        self._dtypes = {name: p.dtype for name, p in own}
        self._trainable = {name for name, p in own if p.requires_grad}
        self._exact: dict[str, Tensor] = {name: p.data for name, p in own if casts and not _fits_into_bf16(p.data)}

    def trim(self, model: Any) -> None:
        """Drop the stored weights that were not cast after all.

        Args:
            model: The model after the cast.
        """
        dtypes = {name: p.dtype for name, p in model.named_parameters()}
        self._exact = {name: value for name, value in self._exact.items() if dtypes[name] != value.dtype}

    def size(self, model: Any) -> int:
        """Return the bytes of the model and of the weights that are stored besides it.

        Args:
            model: The model, cast or not.
        """
        return bytes_of([*model.parameters(), *model.buffers(), *self._exact.values()])

    @torch.no_grad()
    def copy(self, model: Any) -> Any:
        """Return a new model with the weights that were loaded, on the same device.

        Args:
            model: The model, cast or not.
        """
        ready: dict[int, Any] = {}
        for name, p in model.named_parameters():
            data = self._exact.get(name, p.data).to(p.device, self._dtypes[name], copy=True)
            ready[id(p)] = nn.Parameter(data, requires_grad=name in self._trainable)
        return copy.deepcopy(model, ready)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors; those that share memory count once."""
    return sum({t.data_ptr(): t.nbytes for t in tensors}.values())


def _fits_into_bf16(value: Tensor) -> bool:
    if not value.is_floating_point() or value.dtype == torch.bfloat16:
        return True
    return all(torch.equal(part.bfloat16().to(part.dtype), part) for part in (value.flatten()[:PROBED], value))
