"""Turn hidden states into log-probs without storing the logits: language-model head and softmax run in tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from prefzoo.engine.online_softmax import OnlineSoftmax, rescaled_sum

TILES = {"cpu": (512, 8192)}  # (tokens, vocabulary entries) of a tile; fastest on two cores
TILE_LOGITS = 2**26  # logits of a tile on other devices, over the whole vocabulary: few launches
MAX_SAVED_BYTES = {"cpu": 2**28}  # limit of half-precision products to save for the backward pass
Tile = tuple[int, int] | None


@dataclass(frozen=True)
class LMHead:
    """A model's language-model head: logits are `cap * tanh(scale * (states @ weight.T + bias) / cap)`.

    Attributes:
        weight: (V, D) weight.
        bias: (V,) bias, or None.
        scale: Factor of all logits (Cohere's `logit_scale`, the inverse of Granite's `logits_scaling`).
        cap: Gemma 2's soft-capping; 0 for no capping.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float = 0.0

    def to(self, dtype: torch.dtype) -> LMHead:
        """Return the head in another precision."""
        return replace(self, weight=self.weight.to(dtype), bias=None if self.bias is None else self.bias.to(dtype))

    def products(self, states: Tensor, part: slice) -> Tensor:
        """Return (n, v) `states @ weight.T + bias` for a part of the vocabulary, in the dtype of `states`."""
        bias = None if self.bias is None else self.bias[part]
        products: Tensor = torch.nn.functional.linear(states, self.weight[part], bias)
        return products

    def logits(self, states: Tensor, part: slice, products: Tensor | None = None) -> Tensor:
        """Return the logits of a part of the vocabulary.

        Args:
            states: (n, D) hidden states.
            part: The part of the vocabulary.
            products: (n, v) result of `products` for these states and this part; None to compute it.

        Returns:
            (n, v) logits in fp32 (fp64 for fp64 states).
        """
        logits = self.products(states, part) if products is None else products
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.scale != 1:
            logits = logits * self.scale
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits

    def grad_of_products(self, grad: Tensor, logits: Tensor) -> Tensor:
        """Turn a gradient with respect to logits into one with respect to products; may overwrite `grad`."""
        if self.cap:
            grad = grad * (1 - (logits / self.cap) ** 2)
        return grad * self.scale if self.scale != 1 else grad


def tile_size(device: str, vocabulary: int) -> tuple[int, int]:
    """Return the tile that suits a type of device: numbers of tokens and of entries of a vocabulary of this size."""
    return TILES.get(device) or (max(1, TILE_LOGITS // vocabulary), vocabulary)


def tile_slices(size: int, step: int) -> list[slice]:
    """Return consecutive slices of at most `step` items that cover `range(size)`."""
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def token_logprobs(
    states: Tensor, head: LMHead, targets: Tensor, *, statistics: bool = False, tile: Tile = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log-prob of each target token, and on request two statistics of its distribution.

    Differentiable in states, weight and bias; the statistics carry no gradient. Matrix products run in the dtype of
    `states`, the rest in fp32 (fp64 for fp64 states). Only one tile of logits is in memory at any time. With a frozen
    head (LoRA), the forward pass already computes the gradient; otherwise the backward pass computes each tile again.
    On CPUs, matrix products in half precision that fit into `MAX_SAVED_BYTES` are saved for the backward pass instead;
    the result is the same to the last bit.

    Args:
        states: (N, D) hidden states that predict the targets.
        head: The model's head.
        targets: (N,) token ids.
        statistics: Whether to compute the entropies and sums of squares.
        tile: Numbers of tokens and vocabulary entries whose logits are in memory at once; None suits the device.

    Returns:
        (N,) log-probs in nats, (N,) entropies in nats, and (N,) logs of the sums of squared probabilities; the last two
        are empty without `statistics`.
    """
    size = tile or tile_size(states.device.type, len(head.weight))
    results: tuple[Tensor, Tensor, Tensor] = _TokenLogProbs.apply(  # type: ignore[no-untyped-call]
        states, head.weight, head.bias, head, targets, statistics, size
    )
    return results


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, head: LMHead, targets: Tensor, statistics: bool,
        tile: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        frozen = not ctx.needs_input_grad[1] and not ctx.needs_input_grad[2]
        ctx.head, ctx.tile, head = head, tile, head.to(states.dtype)
        ctx.early = frozen and ctx.needs_input_grad[0]
        ctx.products = _saved_products(states, head, wanted=any(ctx.needs_input_grad) and not ctx.early)
        parts = [
            _forward(states[rows], head, targets[rows], statistics, tile[1], ctx.early, ctx.products)
            for rows in tile_slices(len(states), tile[0])
        ]
        picked, lse, entropy, squares, ready = (torch.cat(p) for p in zip(*parts, strict=True))
        ctx.save_for_backward(*((ready,) if ctx.early else (states, targets, lse)))
        ctx.mark_non_differentiable(entropy, squares)
        return picked - lse, entropy, squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        if ctx.early:
            (ready,) = ctx.saved_tensors
            return (ready * grad[:, None]).to(ready.dtype), *[None] * 6
        states, targets, lse = ctx.saved_tensors
        sums, head = GradientSums(ctx, states), ctx.head.to(states.dtype)
        for rows in tile_slices(len(states), ctx.tile[0]):
            for part in tile_slices(len(head.weight), ctx.tile[1]):
                logits = head.logits(states[rows], part, ctx.products.pop(0) if ctx.products else None)
                down = logits - lse[rows, None] if head.cap else logits.sub_(lse[rows, None])
                down = down.exp_().mul_(-grad[rows, None])
                _add_at_targets(down, targets[rows], part, grad[rows], len(head.weight))
                down = head.grad_of_products(down, logits)
                del logits
                down = sums.narrow(down, part)  # the wide tile leaves memory before the products need theirs
                sums.add(states[rows], head, down, rows, part)
                del down  # before the next tile
        return sums.result()


def _saved_products(states: Tensor, head: LMHead, *, wanted: bool) -> list[Tensor] | None:
    """Return an empty list for the products to save for the backward pass, or None if they are not to be saved."""
    size = len(states) * len(head.weight) * states.element_size()
    half = states.dtype in (torch.bfloat16, torch.float16)
    return [] if wanted and half and size <= MAX_SAVED_BYTES.get(states.device.type, 0) else None


def _grad_of_target(picked: Tensor, targets: Tensor, head: LMHead, wide: torch.dtype) -> Tensor:
    """Return the (n, D) gradient of the targets' logits with respect to the states."""
    slope = head.scale * (1 - (picked / head.cap) ** 2) if head.cap else torch.full_like(picked, head.scale)
    grad: Tensor = slope.to(wide)[:, None] * head.weight[targets].to(wide)
    return grad


def _forward(
    states: Tensor, head: LMHead, targets: Tensor, statistics: bool, width: int, early: bool,
    saved: list[Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the target logits, log-sum-exps, statistics and gradients per unit of log-prob of a tile's rows."""
    wide = torch.float64 if states.dtype == torch.float64 else torch.float32
    so_far, picked = OnlineSoftmax(statistics), []
    mean: Tensor | float = 0.0
    for part in tile_slices(len(head.weight), width):
        products = head.products(states, part)
        if saved is not None:
            saved.append(products)
        logits = head.logits(states, part, products)
        picked.append(_at_targets(logits, targets, part, len(head.weight)))
        each, shrink = so_far.add(logits, overwrite=not head.cap)
        if early:
            down = _grad_of_states(head.grad_of_products(each, logits), states, head, part)
            mean = rescaled_sum(mean, shrink, down)
    own = reduce(add, picked)
    ready = states[:, :0]
    if early:
        ready = (_grad_of_target(own, targets, head, wide) - mean / so_far.total).to(states.dtype)
    pair = so_far.statistics() if statistics else (own[:0], own[:0])
    return own, so_far.lse.squeeze(-1), *pair, ready


def _grad_of_states(down: Tensor, states: Tensor, head: LMHead, part: slice) -> Tensor:
    grad: Tensor = down.to(states.dtype) @ head.weight[part]
    return grad.to(down.dtype)


def _at_targets(logits: Tensor, targets: Tensor, part: slice, vocabulary: int) -> Tensor:
    """Return each row's logit in its target's column; 0 if the tile does not include that column."""
    if part == slice(0, vocabulary):
        return logits.gather(-1, targets[:, None]).squeeze(-1)
    return _inside(targets, part) * logits.gather(-1, _column(targets, part)[:, None]).squeeze(-1)


def _add_at_targets(down: Tensor, targets: Tensor, part: slice, values: Tensor, vocabulary: int) -> None:
    """Add each row's value in its target's column, if the tile includes that column."""
    if part == slice(0, vocabulary):
        down.scatter_add_(-1, targets[:, None], values[:, None])
    else:
        down.scatter_add_(-1, _column(targets, part)[:, None], (_inside(targets, part) * values)[:, None])


def _inside(targets: Tensor, part: slice) -> Tensor:
    inside: Tensor = (targets >= part.start) & (targets < part.stop)
    return inside


def _column(targets: Tensor, part: slice) -> Tensor:
    column: Tensor = (targets - part.start).clamp(0, part.stop - part.start - 1)
    return column


class GradientSums:
    """Sums, in fp32, of the gradients of states, weight and bias over the tiles of logits."""

    def __init__(self, ctx: Any, states: Tensor) -> None:
        head = ctx.head
        self.head, self.dtype = head, states.dtype
        wide = torch.float64 if states.dtype == torch.float64 else torch.float32
        wanted = [
            t if need else None for t, need in zip((states, head.weight, head.bias), ctx.needs_input_grad, strict=False)
        ]
        # the weight's gradient is as large as the embedding: the first rows fill it instead of zeros
        starts = torch.zeros_like, torch.empty_like if len(states) else torch.zeros_like, torch.zeros_like
        self.sums = [None if t is None else start(t, dtype=wide) for t, start in zip(wanted, starts, strict=True)]

    def narrow(self, down: Tensor, part: slice) -> Tensor:
        """Add the gradient of the bias from one tile, and return the tile in the dtype of the states.

        Args:
            down: (n, v) gradient of the tile's products.
            part: The tile's part of the vocabulary.
        """
        to_bias = self.sums[2]
        if to_bias is not None:
            to_bias[part] += down.sum(0, dtype=to_bias.dtype)
        return down.to(self.dtype)

    def add(self, states: Tensor, head: LMHead, down: Tensor, rows: slice, part: slice) -> None:
        """Add the gradients of states and weight from one tile.

        Args:
            states: (n, D) hidden states of the tile's rows.
            head: The head in the dtype of `states`.
            down: (n, v) gradient of the tile's products, as `narrow` returns it.
            rows: The tile's rows.
            part: The tile's part of the vocabulary.
        """
        to_states, to_weight, _ = self.sums
        if to_states is not None:
            to_states[rows] += down @ head.weight[part]
        if to_weight is not None:
            grad = down.t() @ states
            if rows.start:
                to_weight[part] += grad
            else:
                to_weight[part] = grad

    def result(self) -> tuple[Tensor | None, ...]:
        """Return the gradients in the order of the autograd functions' arguments; None for those without one."""
        dtypes = (self.dtype, self.head.weight.dtype, None if self.head.bias is None else self.head.bias.dtype)
        grads = [None if s is None else s.to(d) for s, d in zip(self.sums, dtypes, strict=True)]
        return *grads, *[None] * 4
