"""Norm, gate and rotary positions with their own gradient formulas: few launches, little memory for the backward pass.

On GPUs, where a launch costs as much as a small operation, torch's kernels that compute several steps in one are used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import rms_norm, silu

from prefzoo.engine.recomputed import recomputable

FUSED_NORM = ("cuda",)  # devices where torch computes the norm in one kernel
FEW_LAUNCHES = ("cuda",)  # devices where one operation on more data costs less than two
HEADS = 1  # the index of the heads' dimension


def norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Return x / sqrt(mean(x^2) + eps) * weight, computed in fp32 (Zhang & Sennrich 2019, arXiv:1910.07467).

    Args:
        x: (..., D) input.
        weight: (D,) weight.
        eps: Small number that keeps the root above zero.
        dtype: Precision of the output.

    Returns:
        (..., D) output.
    """
    if x.device.type in FUSED_NORM:
        wide = x.to(weight.dtype)  # torch's kernel takes one precision only
        normed = rms_norm(wide, weight.shape, weight, eps).to(dtype)
        inputs = wide.detach(), weight.detach()
        return recomputable(normed, lambda: rms_norm(inputs[0], weight.shape, inputs[1], eps).to(dtype))
    plain: Tensor = _Norm.apply(x, weight, eps, dtype)  # type: ignore[no-untyped-call]
    return plain


def gate(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up (Shazeer 2020, arXiv:2002.05202); the backward pass computes silu again."""
    gated: Tensor = _Gate.apply(gate, up)  # type: ignore[no-untyped-call]
    inputs = gate.detach(), up.detach()
    return recomputable(gated, lambda: silu(inputs[0]).mul_(inputs[1]))


def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Apply rotary positions (Su 2021, arXiv:2104.09864).

    Args:
        query: (B, H, T, D) queries of H heads.
        key: (B, K, T, D) keys of K heads.
        cos: (B, T, R) cosines of the positions' angles; only the first R of D numbers of a head are rotated.
        sin: (B, T, R) sines.
        unsqueeze_dim: Index at which the dimension of the heads is added to cosines and sines.

    Returns:
        The rotated queries and keys, in the shapes of the inputs.
    """
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    whole = query.shape[-1] == cos.shape[-1] and query.dtype == key.dtype
    if query.device.type in FEW_LAUNCHES and unsqueeze_dim == HEADS and whole:
        pair: tuple[Tensor, Tensor] = _RotatePair.apply(query, key, cos, sin)  # type: ignore[no-untyped-call]
        return pair
    return _rotated(query, cos, sin), _rotated(key, cos, sin)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the part of each head that the cosines cover; GPT-NeoX leaves the rest as it is."""
    size = cos.shape[-1]
    if size == x.shape[-1]:
        whole: Tensor = _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call]
        return whole
    turned = _Rotate.apply(x[..., :size], cos, sin)  # type: ignore[no-untyped-call]
    return torch.cat((turned, x[..., size:].to(turned.dtype)), -1)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        wide = x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        normed: Tensor = (wide * scale).mul_(weight).to(dtype)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        unit, grad = x.float() * scale, grad.float()
        of_weight = (grad * unit).flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        grad = grad * weight
        along = torch.linalg.vecdot(grad, unit).unsqueeze(-1).div_(x.shape[-1])
        return grad.sub_(unit.mul_(along)).mul_(scale).to(x.dtype), of_weight, None, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        of_up = silu(gate).mul_(grad)
        of_gate = torch.ops.aten.silu_backward(grad * up, gate)
        return of_gate, of_up


class _Rotate(torch.autograd.Function):
    """x * cos + (-x2, x1) * sin, on the two halves of a head; the backward pass is the same with the other sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.dtype = x.dtype
        return _turned(x, cos, sin, 1, _lower(x, cos))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, sin, -1, ctx.dtype), None, None


class _RotatePair(torch.autograd.Function):
    """`_Rotate` for queries and keys in one operation."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cos, sin)
        ctx.dtype, ctx.heads = query.dtype, (query.shape[HEADS], key.shape[HEADS])
        both = _turned(_side_by_side(query, key), cos, sin, 1, _lower(query, cos))
        return torch.split(both, ctx.heads, HEADS)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        both = _turned(_side_by_side(*grads), cos, sin, -1, ctx.dtype)
        return *torch.split(both, ctx.heads, HEADS), None, None


def _side_by_side(query: Tensor, key: Tensor) -> Tensor:
    """Join the heads of both; those of a token are adjacent in memory, as matrix products write and read them."""
    return torch.cat((query.transpose(1, 2), key.transpose(1, 2)), 2).transpose(1, 2)


def _lower(x: Tensor, cos: Tensor) -> torch.dtype:
    """Return the precision of the result; under autocast the attention's products take the lower one anyway."""
    return x.dtype if torch.is_autocast_enabled(x.device.type) else torch.promote_types(x.dtype, cos.dtype)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: int, dtype: torch.dtype) -> Tensor:
    half = x.shape[-1] // 2
    turned = x * cos
    turned[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-sign)
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:], value=sign)
    return turned.to(dtype)
