"""Triton kernels for `head_kernels`: each reads a tile of products once and stores only its results."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096  # columns that one program holds at a time


def summarize(products: Tensor, columns: Tensor, scale: float, cap: float) -> tuple[Tensor, Tensor, Tensor]:
    """Reduce a tile of products to the sums of a softmax.

    Args:
        products: (n, v) products of hidden states and the head's weight.
        columns: (n,) column of each row's target, or `OUTSIDE_TILE`.
        scale: Factor of the logits.
        cap: Soft-capping of the logits; 0 for none.

    Returns:
        As `prefzoo.engine.head_kernels.summarize`.
    """
    (rows, width), products = products.shape, products.contiguous()
    top, total, picked = (products.new_empty(rows, dtype=torch.float32) for _ in range(3))
    _summarize[(rows,)](products, columns, top, total, picked, width, scale, cap, bool(cap), _block(width))
    return top[:, None], total[:, None], picked


def grad_products(products: Tensor, lse: Tensor, columns: Tensor, grad: Tensor, scale: float, cap: float) -> Tensor:
    """Return the gradient of the targets' log-probs with respect to a tile of products, which it overwrites.

    Args:
        products: (n, v) products of hidden states and the head's weight.
        lse: (n, 1) log of the sum of exp(logit) over the whole vocabulary.
        columns: (n,) column of each row's target, or `OUTSIDE_TILE`.
        grad: (n,) gradient of each row's log-prob.
        scale: Factor of the logits.
        cap: Soft-capping of the logits; 0 for none.

    Returns:
        (n, v) gradient, in the dtype of `products`.
    """
    (rows, width), products = products.shape, products.contiguous()
    block = _block(width)
    grid = (rows, triton.cdiv(width, block))
    _grad_products[grid](
        products, lse.contiguous(), columns, grad.float().contiguous(), width, scale, cap, bool(cap), block
    )  # fmt: skip
    return products


def _block(width: int) -> int:
    return min(BLOCK, int(triton.next_power_of_2(width)))


@triton.jit
def _logits(products: Any, scale: Any, cap: Any, CAPPED: tl.constexpr) -> Any:
    logits = products.to(tl.float32) * scale
    if CAPPED:
        logits = cap * (2 * tl.sigmoid(2 * logits / cap) - 1)  # tanh
    return logits


@triton.jit
def _summarize(
    products: Any, columns: Any, top: Any, total: Any, picked: Any, width: Any, scale: Any, cap: Any,
    CAPPED: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """Store a row's largest logit and sum of exponentials, block by block (Milakov & Gimelshein, arXiv:1805.02867)."""
    row = tl.program_id(0).to(tl.int64)
    line = products + row * width
    largest, sums = -float("inf"), 0.0
    for start in range(0, width, BLOCK):
        at = start + tl.arange(0, BLOCK)
        logits = _logits(tl.load(line + at, mask=at < width, other=0.0), scale, cap, CAPPED)
        logits = tl.where(at < width, logits, -float("inf"))
        higher = tl.maximum(largest, tl.max(logits, 0))
        sums = sums * tl.exp(largest - higher) + tl.sum(tl.exp(logits - higher), 0)
        largest = higher
    column = tl.load(columns + row)
    hit = _logits(tl.load(line + tl.maximum(column, 0)), scale, cap, CAPPED)
    tl.store(top + row, largest)
    tl.store(total + row, sums)
    tl.store(picked + row, tl.where(column >= 0, hit, 0.0))


@triton.jit
def _grad_products(
    products: Any, lse: Any, columns: Any, grad: Any, width: Any, scale: Any, cap: Any,
    CAPPED: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """Overwrite a block of a row with grad * (1 at the target - exp(logit - lse)) * d logit / d product."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    pointers, inside = products + row * width + at, at < width
    logits = _logits(tl.load(pointers, mask=inside, other=0.0), scale, cap, CAPPED)
    hit = (at == tl.load(columns + row)).to(tl.float32)
    down = tl.load(grad + row) * (hit - tl.exp(logits - tl.load(lse + row))) * scale
    if CAPPED:
        down = down * (1 - (logits / cap) * (logits / cap))
    tl.store(pointers, down.to(products.dtype.element_ty), mask=inside)
