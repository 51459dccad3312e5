"""Run the engine's code for GPUs on a CPU: kernels that CPUs lack are emulated under torch's names.

The two FlashAttention operators, of which one is the other's gradient in torch, are replaced by plain torch on each
sequence, with the operators' arguments. Each counts as one dispatched operation, as on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from prefzoo.engine import (
    adapter_product,
    fused_ops,
    lm_head,
    packed_attention,
    recomputed,
    stacked_adapters,
    stacked_scoring,
    varlen_attention,
)
from prefzoo.training import multi_lora


@contextmanager
def emulated_gpu() -> Iterator[None]:
    """Let the engine treat CPU tensors like CUDA tensors within this context."""
    with pytest.MonkeyPatch.context() as patch, torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_flash_attention_forward", _flash_forward, "CPU")
        library.impl("_flash_attention_backward", _flash_backward, "CPU")
        patch.setattr(varlen_attention, "largest_head", lambda device: varlen_attention.MAX_HEAD)
        patch.setattr(packed_attention, "CPU_KERNELS", ())
        patch.setattr(adapter_product, "DEVICES", ("cpu",))
        for module in (stacked_adapters, stacked_scoring, multi_lora):
            patch.setattr(module, "PART_BY_PART", ())
        patch.setattr(fused_ops, "FUSED_NORM", ("cpu",))
        patch.setattr(fused_ops, "FEW_LAUNCHES", ("cpu",))
        patch.setattr(recomputed, "DEVICES", ("cpu",))
        patch.setattr(fused_ops, "rms_norm", _rms_norm)
        patch.setattr(lm_head, "TILES", {})
        patch.setattr(lm_head, "MAX_SAVED_BYTES", {})
        yield


def _sequences(starts_q: Tensor, starts_k: Tensor) -> list[tuple[slice, slice]]:
    parts = ([slice(*ends) for ends in pairwise(starts.tolist())] for starts in (starts_q, starts_k))
    return list(zip(*parts, strict=True))


def _weights(q: Tensor, k: Tensor, scale: float, left: int) -> Tensor:
    """Return attention weights with the causal mask aligned at the end: the last query sees the last key."""
    t, s = len(q), len(k)
    scores = torch.einsum("tgrd,sgd->grts", q, k) * scale
    near = torch.ones(t, s, dtype=torch.bool).tril(s - t)
    if left >= 0:
        near = near.triu(s - t - left)
    return scores.masked_fill(~near, -torch.inf).softmax(-1)


def _grouped(x: Tensor, groups: int) -> Tensor:
    return x.double().unflatten(1, (groups, -1))


def _flash_forward(
    q: Tensor, k: Tensor, v: Tensor, starts_q: Tensor, starts_k: Tensor, most_q: int, most_k: int, dropout: float,
    causal: bool, return_debug_mask: bool, *, scale: float | None = None, window_size_left: int | None = None,
    window_size_right: int | None = None, **_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    _check(q, k, v, starts_q, starts_k, most_q, most_k)
    assert window_size_right == 0 and not dropout and causal == (window_size_left == -1)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    left = -1 if window_size_left is None else window_size_left
    for of_q, of_k in _sequences(starts_q, starts_k):
        wide = _grouped(q[of_q], k.shape[1])
        weights = _weights(wide, k[of_k].double(), scale or q.shape[-1] ** -0.5, left)
        out[of_q] = torch.einsum("grts,sgd->tgrd", weights, v[of_k].double()).flatten(1, 2).to(q.dtype)
    return out, q.new_empty(q.shape[1], len(q), dtype=torch.float32), q.new_empty(2), q.new_empty(0), q.new_empty(0)


def _check(q: Tensor, k: Tensor, v: Tensor, starts_q: Tensor, starts_k: Tensor, most_q: int, most_k: int) -> None:
    """Check the requirements of the kernel, which it does not all check itself."""
    assert q.dtype in (torch.bfloat16, torch.float16) and q.dtype == k.dtype == v.dtype
    assert all(x.stride(-1) == 1 for x in (q, k, v)) and q.shape[-1] % 8 == 0 and q.shape[1] % k.shape[1] == 0
    assert starts_q.dtype == starts_k.dtype == torch.int32
    assert starts_q[-1] == len(q) and starts_k[-1] == len(k) == len(v)
    assert starts_q.diff().max() == most_q and starts_k.diff().max() == most_k


def _flash_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, starts_q: Tensor, starts_k: Tensor,
    most_q: int, most_k: int, dropout: float, causal: bool, rng: Tensor, unused: Tensor, *,
    scale: float | None = None, window_size_left: int | None = None, window_size_right: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    _check(q, k, v, starts_q, starts_k, most_q, most_k)
    scale = scale or q.shape[-1] ** -0.5
    to_q, to_k, to_v = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    left = -1 if window_size_left is None else window_size_left
    for of_q, of_k in _sequences(starts_q, starts_k):
        wide, down = _grouped(q[of_q], k.shape[1]), _grouped(grad[of_q], k.shape[1])
        keys, values = k[of_k].double(), v[of_k].double()
        weights = _weights(wide, keys, scale, left)
        of_weights = torch.einsum("tgrd,sgd->grts", down, values)
        of_scores = weights * (of_weights - (weights * of_weights).sum(-1, keepdim=True)) * scale
        to_q[of_q] = torch.einsum("grts,sgd->tgrd", of_scores, keys).flatten(1, 2).to(q.dtype)
        to_k[of_k] = torch.einsum("grts,tgrd->sgd", of_scores, wide).to(q.dtype)
        to_v[of_k] = torch.einsum("grts,tgrd->sgd", weights, down).to(q.dtype)
    return to_q, to_k, to_v


def _rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor, eps: float) -> Tensor:
    assert x.dtype == weight.dtype, "torch's kernel takes one precision only"
    normed: Tensor = torch.ops.emulated.rms_norm(x, weight, eps)
    return normed


@torch.library.custom_op("emulated::rms_norm", mutates_args=())
def _forward(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight


@torch.library.custom_op("emulated::rms_norm_backward", mutates_args=())
def _backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    scale = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    unit, of_weight = x * scale, (grad * x * scale).flatten(0, -2).sum(0)
    grad = grad * weight
    return (grad - unit * (grad * unit).mean(-1, keepdim=True)) * scale, of_weight


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.eps = inputs[2]


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *torch.ops.emulated.rms_norm_backward(grad, *ctx.saved_tensors, ctx.eps), None


_forward.register_autograd(_gradients, setup_context=_save)
