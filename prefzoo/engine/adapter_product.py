"""Compute a linear layer with a LoRA adapter in three matrix products, and its gradients in five.

These are half as many operations as in peft. On GPUs, a small operation costs as much as its launch, so the products of
W x + s B A x (Hu 2021, arXiv:2106.09685) add to their output. In half precision the sum is then rounded once; in peft
it is rounded three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

DEVICES = ("cuda",)  # where launches limit the speed; on CPUs, peft's own products are as fast


@contextmanager
def fused_adapters(model: Any, *, enabled: bool = True) -> Iterator[None]:
    """Compute a model's linear layers with adapters by `adapted` within this context, on devices where it is faster.

    Args:
        model: A peft model; any other model is left unchanged.
        enabled: Whether to do anything; False if this process holds only parts of the weights.
    """
    layers = [m for m in model.modules() if _is_plain(m)] if enabled and model.device.type in DEVICES else []
    casts = [layer.cast_input_dtype_enabled for layer in layers]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
        layer.cast_input_dtype_enabled = False  # so that `compute_weights` makes copies for layers with dropout, too
    try:
        yield
    finally:
        for layer, cast in zip(layers, casts, strict=True):
            del layer.forward
            layer.cast_input_dtype_enabled = cast


def adapted(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float, dropout: float = 0.0
) -> Tensor:
    """Return W x + b + s B A dropout(x).

    Args:
        x: (..., I) input. All tensors have the precision of the matrix products.
        weight: (O, I) frozen weight W.
        bias: (O,) frozen bias, or None.
        down: (r, I) A.
        up: (O, r) B.
        scale: Factor s.
        dropout: Share of the adapter's inputs that is set to zero.

    Returns:
        (..., O) outputs.
    """
    rows: Tensor = _Adapted.apply(x.reshape(-1, x.shape[-1]), weight, bias, down, up, scale, dropout)  # type: ignore[no-untyped-call]
    return rows.view(*x.shape[:-1], -1)


def _is_plain(layer: Any) -> bool:
    """Return whether a layer is peft's plain `Linear` around a frozen `nn.Linear`, with one adapter."""
    if not hasattr(layer, "lora_A") or "forward" in vars(layer):
        return False
    from peft.tuners.lora.layer import Linear

    names = list(layer.lora_A)
    return (
        type(layer) is Linear and type(layer.base_layer) is nn.Linear and names == list(layer.active_adapters)
        and len(names) == 1 and not layer.lora_variant and not layer.fan_in_fan_out and not layer.merged
        and layer.lora_A[names[0]].bias is None and layer.lora_B[names[0]].bias is None
        and not layer.base_layer.weight.requires_grad
    )  # fmt: skip


def _forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    (name,), base = self.lora_A, self.base_layer
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
    if self.disable_adapters or base.weight.dtype != dtype:  # autocast casts fp32 weights, once a step
        return type(self).forward(self, x, *args, **kwargs)  # type: ignore[no-any-return]
    down, up = self.lora_A[name].weight.to(dtype), self.lora_B[name].weight.to(dtype)
    rate = float(getattr(self.lora_dropout[name], "p", 0.0)) if self.training else 0.0
    return adapted(x.to(dtype), base.weight, base.bias, down, up, float(self.scaling[name]), rate)


class _Adapted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float, dropout: float
    ) -> Tensor:
        dropped, kept = torch.native_dropout(x, dropout, True) if dropout else (x, None)
        low = linear(dropped, down)
        ctx.save_for_backward(dropped, kept, low, weight, down, up)
        ctx.scale, ctx.dropout = scale, dropout
        return linear(x, weight, bias).addmm_(low, up.t(), alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dropped, kept, low, weight, down, up = ctx.saved_tensors
        to_low, to_x = _scaled_product(grad, up, ctx.scale), None
        if ctx.needs_input_grad[0]:
            to_x = grad @ weight
            if kept is None:
                to_x.addmm_(to_low, down)
            else:
                to_x.addcmul_(to_low @ down, kept, value=1 / (1 - ctx.dropout))
        return to_x, None, None, to_low.t() @ dropped, _scaled_product(grad.t(), low, ctx.scale), None, None


def _scaled_product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    product: Tensor = torch.addmm(a.new_empty(1), a, b, beta=0, alpha=scale)  # beta=0: the first argument is not read
    return product
