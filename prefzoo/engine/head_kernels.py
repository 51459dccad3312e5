"""A tile of the head's products on a GPU: plain torch, torch.compile or Triton, whichever is measured to be fastest.

Each is tried on the sizes at hand and compared with plain torch before it is used; what fails or gives other numbers is
left out. Liger's fused head is no candidate: its backward pass scales the gradient by one number, while a preference
loss has a slope for every answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec

import torch
from torch import Tensor

from prefzoo.engine import autotune

Summarize = Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor, Tensor]]
GradProducts = Callable[[Tensor, Tensor, Tensor, Tensor, float, float], Tensor]
OUTSIDE_TILE = -1  # the column of a target that lies outside the tile


@dataclass(frozen=True)
class Kernels:
    """Two functions of a tile of products (n, v); logits are `cap * tanh(scale * products / cap)`, without a cap plain.

    Attributes:
        summary: of (products, columns (n,), scale, cap): the largest logit (n, 1), the sum of exp(logit - largest)
            (n, 1), and the logit in the row's column (n,), zero for `ELSEWHERE`; fp32.
        slopes: of (products, lse (n, 1), columns (n,), grad (n,), scale, cap): the gradient (n, v) of the products, in
            their dtype, where `grad` is that of the log-probs in those columns; may overwrite the products.
    """

    summarize: Summarize
    grad_products: GradProducts


def summarize(products: Tensor, columns: Tensor, scale: float, cap: float) -> tuple[Tensor, Tensor, Tensor]:
    """See `Kernels`."""
    logits = _logits(products, scale, cap)
    top = logits.amax(-1, keepdim=True)
    picked = logits.gather(-1, columns.clamp(min=0)[:, None]).squeeze(-1)
    return top, (logits - top).exp().sum(-1, keepdim=True), torch.where(columns >= 0, picked, 0.0)


def grad_products(products: Tensor, lse: Tensor, columns: Tensor, grad: Tensor, scale: float, cap: float) -> Tensor:
    """See `Kernels`."""
    logits = _logits(products, scale, cap)
    places = torch.arange(products.shape[1], device=products.device)
    found = grad[:, None] * ((places == columns[:, None]).float() - (logits - lse).exp())
    if cap:
        found = found * (1 - (logits / cap) ** 2)
    return (found * scale).to(products.dtype)


def _logits(products: Tensor, scale: float, cap: float) -> Tensor:
    logits = products.float() * scale
    return cap * torch.tanh(logits / cap) if cap else logits


@lru_cache(maxsize=1)
def candidates() -> dict[str, Kernels]:
    """What this installation has, by name; plain torch first."""
    compiled = torch.compile(summarize, dynamic=True), torch.compile(grad_products, dynamic=True)
    found = {"torch": Kernels(summarize, grad_products), "torch.compile": Kernels(*compiled)}
    if find_spec("triton"):
        from prefzoo.engine import triton_head

        found["triton"] = Kernels(triton_head.summarize, triton_head.grad_products)
    return found


def fastest(example: Callable[[], Tensor], rows: int, width: int, like: Tensor, scale: float, cap: float) -> Kernels:
    """The fastest candidate on tiles like this one; measured once for each width and each power of two of rows.

    Args:
        example: makes the products (rows, width), of the dtype and on the device of `like`.
    """
    tried, half = candidates(), like.dtype in (torch.bfloat16, torch.float16)
    work = f"tile {like.dtype} 2^{rows.bit_length()} x {width}{' capped' if cap else ''}"
    with torch.no_grad():
        ways = {name: partial(_both, kernels, example, scale, cap) for name, kernels in tried.items()}
        return tried[autotune.CHOICES.of(work, ways, like.device, rough=half)]


def _both(kernels: Kernels, example: Callable[[], Tensor], scale: float, cap: float, _: int = 0) -> tuple[Tensor, ...]:
    """What both functions make of some rows whose targets are in the tile, and others whose are not."""
    products = example()
    columns = torch.arange(len(products), device=products.device) % products.shape[1]
    columns[::2] = OUTSIDE_TILE
    grad = torch.linspace(-1, 1, len(products), device=products.device)
    top, total, picked = kernels.summarize(products, columns, scale, cap)
    return top, total, picked, kernels.grad_products(products.clone(), top + total.log(), columns, grad, scale, cap)
