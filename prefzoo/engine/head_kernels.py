"""Process a tile of the language-model head's products on a GPU by the fastest of torch, torch.compile and Triton.

Each candidate is measured on the sizes at hand and compared with plain torch before it is used; one that fails or
returns other numbers is left out. Liger's fused head is no candidate: its backward pass scales the gradient by a single
number, while a preference loss has another gradient for every answer.
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
    """One implementation of the two functions that the head needs of a tile of (n, v) products.

    Logits are `cap * tanh(scale * products / cap)`, or `scale * products` without a cap.

    Attributes:
        summarize: This module's `summarize`, or a function with the same arguments and results.
        grad_products: This module's `grad_products`, or a function with the same arguments and results.
    """

    summarize: Summarize
    grad_products: GradProducts


def summarize(products: Tensor, columns: Tensor, scale: float, cap: float) -> tuple[Tensor, Tensor, Tensor]:
    """Reduce a tile of products to the sums of a softmax, in plain torch.

    Args:
        products: (n, v) products of hidden states and the head's weight.
        columns: (n,) column of each row's target, or `OUTSIDE_TILE`.
        scale: Factor of the logits.
        cap: Soft-capping of the logits; 0 for none.

    Returns:
        In fp32: (n, 1) largest logit, (n, 1) sum of exp(logit - largest), and (n,) logit of the target, zero for
        targets outside the tile.
    """
    logits = _logits(products, scale, cap)
    top = logits.amax(-1, keepdim=True)
    picked = logits.gather(-1, columns.clamp(min=0)[:, None]).squeeze(-1)
    return top, (logits - top).exp().sum(-1, keepdim=True), torch.where(columns >= 0, picked, 0.0)


def grad_products(products: Tensor, lse: Tensor, columns: Tensor, grad: Tensor, scale: float, cap: float) -> Tensor:
    """Return the gradient of the targets' log-probs with respect to a tile of products, in plain torch.

    Args:
        products: (n, v) products of hidden states and the head's weight; may be overwritten.
        lse: (n, 1) log of the sum of exp(logit) over the whole vocabulary.
        columns: (n,) column of each row's target, or `OUTSIDE_TILE`.
        grad: (n,) gradient of each row's log-prob.
        scale: Factor of the logits.
        cap: Soft-capping of the logits; 0 for none.

    Returns:
        (n, v) gradient, in the dtype of `products`.
    """
    logits = _logits(products, scale, cap)
    indices = torch.arange(products.shape[1], device=products.device)
    down = grad[:, None] * ((indices == columns[:, None]).float() - (logits - lse).exp())
    if cap:
        down = down * (1 - (logits / cap) ** 2)
    return (down * scale).to(products.dtype)


def _logits(products: Tensor, scale: float, cap: float) -> Tensor:
    logits = products.float() * scale
    return cap * torch.tanh(logits / cap) if cap else logits


@lru_cache(maxsize=1)
def candidates() -> dict[str, Kernels]:
    """Return the implementations that this installation has, by name; plain torch comes first."""
    compiled = torch.compile(summarize, dynamic=True), torch.compile(grad_products, dynamic=True)
    kernels = {"torch": Kernels(summarize, grad_products), "torch.compile": Kernels(*compiled)}
    if find_spec("triton"):
        from prefzoo.engine import triton_head

        kernels["triton"] = Kernels(triton_head.summarize, triton_head.grad_products)
    return kernels


def fastest(example: Callable[[], Tensor], rows: int, width: int, like: Tensor, scale: float, cap: float) -> Kernels:
    """Return the fastest implementation for tiles of a size; measure once per width and power of two of rows.

    Args:
        example: Makes (rows, width) products of the dtype and on the device of `like`.
        rows: Tokens of the tile.
        width: Vocabulary entries of the tile.
        like: A tensor of the dtype and on the device in question.
        scale: Factor of the logits.
        cap: Soft-capping of the logits; 0 for none.

    Returns:
        One of `candidates`.
    """
    kernels, half = candidates(), like.dtype in (torch.bfloat16, torch.float16)
    work = f"tile {like.dtype} 2^{rows.bit_length()} x {width}{' capped' if cap else ''}"
    with torch.no_grad():
        ways = {name: partial(_run_both, one, example, scale, cap) for name, one in kernels.items()}
        return kernels[autotune.CHOICES.of(work, ways, like.device, rough=half)]


def _run_both(
    kernels: Kernels, example: Callable[[], Tensor], scale: float, cap: float, _: int = 0
) -> tuple[Tensor, ...]:
    """Return the results of both functions on rows whose targets lie in the tile, and on others outside it."""
    products = example()
    columns = torch.arange(len(products), device=products.device) % products.shape[1]
    columns[::2] = OUTSIDE_TILE
    grad = torch.linspace(-1, 1, len(products), device=products.device)
    top, total, picked = kernels.summarize(products, columns, scale, cap)
    return top, total, picked, kernels.grad_products(products.clone(), top + total.log(), columns, grad, scale, cap)
