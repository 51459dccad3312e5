"""Cast the trained linear layers' weights to bf16 once per optimiser step, in groups instead of one by one.

Matrix products read the same numbers as under autocast, and the gradients are the same to the last bit: rounded to bf16
by the products, and summed over the passes in fp32. The casts take fewer launches: one for each group of weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

GROUP = 16  # weights cast together, about one layer's; their bf16 gradients are cast when all of them are computed


@contextmanager
def half_precision_weights(model: Any, *, enabled: bool) -> Iterator[None]:
    """Let the trained linear layers of a model read bf16 copies of their weights within this context.

    Enter the context again after each update of the weights. Gradients are accumulated in the fp32 weights.

    Args:
        model: A causal language model that is used under autocast to bf16, or a peft model around one.
        enabled: Whether to do anything.
    """
    own = _weights(model) if enabled else []
    try:
        rest = iter(own)
        while group := list(islice(rest, GROUP)):
            copies = _Copies.apply(*(layer._parameters[name] for layer, name, _ in group))  # type: ignore[no-untyped-call]
            for (layer, name, _), copy in zip(group, copies, strict=True):
                layer._parameters[name] = copy
        yield
    finally:
        for layer, name, parameter in own:
            layer._parameters[name] = parameter


class _Copies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return _cast(weights, torch.bfloat16)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        wide = iter(_cast([grad for grad in grads if grad is not None], torch.float32))
        return tuple(None if grad is None else next(wide) for grad in grads)


def _cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    copies = tuple(torch.empty_like(t, dtype=dtype) for t in tensors)
    if copies:
        torch._foreach_copy_(copies, tuple(tensors))
    return copies


def _weights(model: Any) -> list[tuple[nn.Linear, str, nn.Parameter]]:
    """Return layer, name and parameter of each trained fp32 weight or bias that only matrix products read."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    excluded = {id(part) for part in causal.get_output_embeddings().modules()}  # the engine reads the head in fp32
    for layer in model.modules():
        if getattr(layer, "cast_input_dtype_enabled", False):  # its input would be cast to the weights' precision
            excluded |= {id(part) for part in layer.modules()}
    return [
        (layer, name, parameter)
        for layer in model.modules()
        if type(layer) is nn.Linear and id(layer) not in excluded
        for name, parameter in layer._parameters.items()
        if parameter is not None and parameter.requires_grad and parameter.dtype == torch.float32
    ]
