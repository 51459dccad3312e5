"""A tile of the head's products on a GPU: plain torch, torch.compile or Triton, whichever is measured to be fastest.

Each is tried on the sizes at hand and compared with plain torch before it is used; what fails or gives other numbers is
left out. Liger's fused head is no candidate: its backward pass scales the gradient by one number, while a preference
loss has a slope for every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from prefzoo import measured

Summary = Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor, Tensor]]
Slopes = Callable[[Tensor, Tensor, Tensor, Tensor, float, float], Tensor]
Sizes = tuple[str, torch.dtype, int, int, bool]
ELSEWHERE = -1  # the column of a target that lies outside the tile
CHOSEN: dict[Sizes, Kernels] = {}


@dataclass(frozen=True)
class Kernels:
    """Two functions of a tile of products (n, v); logits are `cap * tanh(scale * products / cap)`, without a cap plain.

    Attributes:
        summary: of (products, columns (n,), scale, cap): the largest logit (n, 1), the sum of exp(logit - largest)
            (n, 1), and the logit in the row's column (n,), zero for `ELSEWHERE`; fp32.
        slopes: of (products, lse (n, 1), columns (n,), grad (n,), scale, cap): the gradient (n, v) of the products, in
            their dtype, where `grad` is that of the log-probs in those columns; may overwrite the products.
    """

    name: str
    summary: Summary
    slopes: Slopes


def summary(products: Tensor, columns: Tensor, scale: float, cap: float) -> tuple[Tensor, Tensor, Tensor]:
    """See `Kernels`."""
    logits = _logits(products, scale, cap)
    top = logits.amax(-1, keepdim=True)
    picked = logits.gather(-1, columns.clamp(min=0)[:, None]).squeeze(-1)
    return top, (logits - top).exp().sum(-1, keepdim=True), torch.where(columns >= 0, picked, 0.0)


def slopes(products: Tensor, lse: Tensor, columns: Tensor, grad: Tensor, scale: float, cap: float) -> Tensor:
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


PLAIN = Kernels("torch", summary, slopes)


def candidates() -> list[Kernels]:
    """What this installation has, plain torch first."""
    found = [PLAIN, Kernels("torch.compile", torch.compile(summary, dynamic=True), torch.compile(slopes, dynamic=True))]
    if find_spec("triton"):
        from prefzoo import triton_head

        found.append(Kernels("triton", triton_head.summary, triton_head.slopes))
    return found


def fastest(products: Tensor, scale: float, cap: float, among: Sequence[Kernels] = ()) -> Kernels:
    """The fastest candidate on tiles like this one; measured once a process for each size, and then known.

    Args:
        among: candidates, one that is trusted first; those of this installation if left out.
    """
    sizes = (str(products.device), products.dtype, *products.shape, bool(cap))
    if sizes not in CHOSEN:
        tried = {kernels.name: kernels for kernels in among or candidates()}
        half = products.dtype in (torch.bfloat16, torch.float16)
        with torch.no_grad():
            ways = {name: partial(_both, kernels, products, scale, cap) for name, kernels in tried.items()}
            CHOSEN[sizes] = tried[measured.fastest(ways, products.device, rough=half)]
    return CHOSEN[sizes]


def _both(kernels: Kernels, products: Tensor, scale: float, cap: float, _: int = 0) -> tuple[Tensor, ...]:
    """What both functions make of some rows whose targets are in the tile, and others whose are not."""
    columns = torch.arange(len(products), device=products.device) % products.shape[1]
    columns[::2] = ELSEWHERE
    grad = torch.linspace(-1, 1, len(products), device=products.device)
    top, total, picked = kernels.summary(products, columns, scale, cap)
    return top, total, picked, kernels.slopes(products.clone(), top + total.log(), columns, grad, scale, cap)
