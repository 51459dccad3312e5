"""From hidden states to log-probs without ever holding the logits: the language-model head and softmax in tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from prefzoo.engine import head_kernels
from prefzoo.engine.head_kernels import Kernels
from prefzoo.engine.online_softmax import OnlineSoftmax

TILES = {"cpu": (512, 8192)}  # (tokens, vocabulary) whose logits exist at a time; measured on two cores
DEFAULT_TILE = (4096, 16384)
MAX_SAVED_BYTES = {"cpu": 2**28}  # bytes of products in half precision that are kept for the backward pass
AUTOTUNED_DEVICES = ("cuda",)  # devices where tiles are computed by the kernels that are measured to be fastest
Tile = tuple[int, int] | None


@dataclass(frozen=True)
class LMHead:
    """What a model makes logits with: `cap * tanh(scale * (states @ weight.T + bias) / cap)`.

    Attributes:
        weight: (V, D); bias: (V,) or None.
        scale: factor of all logits (Cohere's `logit_scale`, the inverse of Granite's `logits_scaling`).
        cap: Gemma 2's soft-capping; 0 for none.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float = 0.0

    def to(self, dtype: torch.dtype) -> LMHead:
        """The same head in another precision."""
        return replace(self, weight=self.weight.to(dtype), bias=None if self.bias is None else self.bias.to(dtype))

    @property
    def scale_and_cap(self) -> tuple[float, float]:
        """Scale and cap."""
        return self.scale, self.cap

    def products(self, states: Tensor, part: slice) -> Tensor:
        """(n, v) `states @ weight.T + bias` for a part of the vocabulary, in the dtype of the states."""
        bias = None if self.bias is None else self.bias[part]
        found: Tensor = torch.nn.functional.linear(states, self.weight[part], bias)
        return found

    def logits(self, states: Tensor, part: slice, products: Tensor | None = None) -> Tensor:
        """(n, v) logits of a part of the vocabulary, in fp32 (fp64 for fp64 states); from `products` where given."""
        found = self.products(states, part) if products is None else products
        found = found if found.dtype == torch.float64 else found.float()
        if self.scale != 1:
            found = found * self.scale
        return self.cap * torch.tanh(found / self.cap) if self.cap else found

    def grad_of_products(self, grad: Tensor, logits: Tensor) -> Tensor:
        """Gradient with respect to `states @ weight.T + bias`, of one with respect to the logits; may reuse `grad`."""
        if self.cap:
            grad = grad * (1 - (logits / self.cap) ** 2)
        return grad * self.scale if self.scale != 1 else grad


def tile_slices(size: int, step: int) -> list[slice]:
    """Slices of at most `step` that cover `size`."""
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def token_logprobs(
    states: Tensor, head: LMHead, targets: Tensor, *, statistics: bool = False, tile: Tile = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) log-probs of `targets` in fp32, and, on demand, (N,) entropies and (N,) log-sums of squares (else empty).

    Differentiable in states, weight and bias; the statistics carry no gradient. The matrix products run in the dtype of
    `states`; the rest is fp32 (fp64 for fp64 states). No more than one tile of logits exists at any time. Where the
    head is frozen (LoRA), the gradient is finished in the forward pass; else the backward pass makes each tile again,
    or on CPUs takes its products from memory, where they are in half precision and few (`KEPT`): the same bits.
    """
    size = tile or TILES.get(states.device.type, DEFAULT_TILE)
    found: tuple[Tensor, Tensor, Tensor] = _TokenLogProbs.apply(  # type: ignore[no-untyped-call]
        states, head.weight, head.bias, head, targets, statistics, size
    )
    return found


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, head: LMHead, targets: Tensor, statistics: bool,
        tile: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        frozen = not ctx.needs_input_grad[1] and not ctx.needs_input_grad[2]
        ctx.head, ctx.tile, head = head, tile, head.to(states.dtype)
        ctx.early = frozen and ctx.needs_input_grad[0]
        ctx.kept = _keeps(states, head, wanted=any(ctx.needs_input_grad) and not ctx.early)
        ctx.fast = None if statistics else _fast(states, head, tile)
        parts = [
            _forward(states[rows], head, targets[rows], statistics, tile[1], ctx.early, ctx.kept)
            if ctx.fast is None
            else _fast_forward(states[rows], head, targets[rows], tile[1], ctx.early, ctx.fast)
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
                if ctx.fast is not None:
                    there, lses = _column_or_none(targets[rows], part), lse[rows, None]
                    down = ctx.fast.grad_products(
                        head.products(states[rows], part), lses, there, grad[rows], *head.scale_and_cap
                    )
                    sums.add(states[rows], head, down, rows, part)
                    continue
                logits = head.logits(states[rows], part, ctx.kept.pop(0) if ctx.kept else None)
                down = logits - lse[rows, None] if head.cap else logits.sub_(lse[rows, None])
                down = down.exp_().mul_(-grad[rows, None])
                _add_at(down, targets[rows], part, grad[rows])
                sums.add(states[rows], head, head.grad_of_products(down, logits), rows, part)
        return sums.done()


def _keeps(states: Tensor, head: LMHead, *, wanted: bool) -> list[Tensor] | None:
    """A place for the products that the backward pass needs again, where they are small enough to be kept."""
    size = len(states) * len(head.weight) * states.element_size()
    half = states.dtype in (torch.bfloat16, torch.float16)
    return [] if wanted and half and size <= MAX_SAVED_BYTES.get(states.device.type, 0) else None


def _fast(states: Tensor, head: LMHead, tile: tuple[int, int]) -> Kernels | None:
    """What computes tiles of this size fastest, on devices where that is measured."""
    if states.device.type not in AUTOTUNED_DEVICES or states.dtype == torch.float64 or not len(states):
        return None
    rows, width = min(tile[0], len(states)), min(tile[1], len(head.weight))
    return head_kernels.fastest(
        lambda: head.products(states[:rows], slice(0, width)), rows, width, states, *head.scale_and_cap
    )


def _fast_forward(
    states: Tensor, head: LMHead, targets: Tensor, width: int, early: bool, fast: Kernels
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As `_forward`, without statistics."""
    so_far = OnlineSoftmax.start(states.new_empty(len(states), 0, dtype=torch.float32), False)
    picked = so_far.total.new_zeros(len(states))
    mean = so_far.total.new_zeros(states.shape if early else (len(states), 0))
    nowhere, minus = torch.full_like(targets, head_kernels.OUTSIDE_TILE), torch.full_like(picked, -1)
    for part in tile_slices(len(head.weight), width):
        products = head.products(states, part)
        top, total, found = fast.summarize(products, _column_or_none(targets, part), *head.scale_and_cap)
        picked, shrink = picked + found, so_far.join(top, total)
        if early:
            down = fast.grad_products(products, so_far.top, nowhere, minus, *head.scale_and_cap)
            mean.mul_(shrink).add_(down @ head.weight[part])
    if early:
        mean = _own(picked, targets, head, torch.float32) - mean / so_far.total
    return picked, so_far.lse.squeeze(-1), picked[:0], picked[:0], mean.to(states.dtype)


def _own(picked: Tensor, targets: Tensor, head: LMHead, wide: torch.dtype) -> Tensor:
    """(n, D) gradient of the target's own logit with respect to the states."""
    slope = head.scale * (1 - (picked / head.cap) ** 2) if head.cap else torch.full_like(picked, head.scale)
    found: Tensor = slope.to(wide)[:, None] * head.weight[targets].to(wide)
    return found


def _forward(
    states: Tensor, head: LMHead, targets: Tensor, statistics: bool, width: int, early: bool, kept: list[Tensor] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """For a tile of tokens: target logits, log-sum-exps, both statistics, and the gradient per unit of log-prob."""
    wide = torch.float64 if states.dtype == torch.float64 else torch.float32
    so_far = OnlineSoftmax.start(states.new_empty(len(states), 0, dtype=wide), statistics)
    picked = so_far.top.new_zeros(len(states))
    mean = so_far.top.new_zeros(states.shape if early else (len(states), 0))
    for part in tile_slices(len(head.weight), width):
        products = head.products(states, part)
        if kept is not None:
            kept.append(products)
        logits = head.logits(states, part, products)
        inside = _inside(targets, part)
        picked = picked + inside * logits.gather(-1, _column(targets, part)[:, None]).squeeze(-1)
        each, shrink = so_far.add(logits, spend=not head.cap)
        if early:
            mean.mul_(shrink).add_(_rows(head.grad_of_products(each, logits), states, head, part))
    if early:
        mean = _own(picked, targets, head, wide) - mean / so_far.total
    found = so_far.statistics() if statistics else (picked[:0], picked[:0])
    return picked, so_far.lse.squeeze(-1), *found, mean.to(states.dtype)


def _rows(down: Tensor, states: Tensor, head: LMHead, part: slice) -> Tensor:
    found: Tensor = down.to(states.dtype) @ head.weight[part]
    return found.to(down.dtype)


def _inside(targets: Tensor, part: slice) -> Tensor:
    found: Tensor = (targets >= part.start) & (targets < part.stop)
    return found


def _column(targets: Tensor, part: slice) -> Tensor:
    found: Tensor = (targets - part.start).clamp(0, part.stop - part.start - 1)
    return found


def _column_or_none(targets: Tensor, part: slice) -> Tensor:
    return torch.where(_inside(targets, part), targets - part.start, head_kernels.OUTSIDE_TILE)


def _add_at(down: Tensor, targets: Tensor, part: slice, values: Tensor) -> None:
    """Add each row's value in its target's column, where the tile has it."""
    down.scatter_add_(-1, _column(targets, part)[:, None], (_inside(targets, part) * values)[:, None])


class GradientSums:
    """Sums, in fp32, of what flows to states, weight and bias from the gradients of logits' tiles."""

    def __init__(self, ctx: Any, states: Tensor) -> None:
        head = ctx.head
        self.head, self.dtype = head, states.dtype
        wide = torch.float64 if states.dtype == torch.float64 else torch.float32
        wanted = [
            t if need else None for t, need in zip((states, head.weight, head.bias), ctx.needs_input_grad, strict=False)
        ]
        # the weight's is as large as the embedding: the first rows fill it instead of zeros
        starts = torch.zeros_like, torch.empty_like if len(states) else torch.zeros_like, torch.zeros_like
        self.sums = [None if t is None else start(t, dtype=wide) for t, start in zip(wanted, starts, strict=True)]

    def add(self, states: Tensor, head: LMHead, down: Tensor, rows: slice, part: slice) -> None:
        """`down` (n, v): the gradient of these rows' and this part's products."""
        to_states, to_weight, to_bias = self.sums
        if to_bias is not None:
            to_bias[part] += down.sum(0, dtype=to_bias.dtype)
        down = down.to(self.dtype)
        if to_states is not None:
            to_states[rows] += down @ head.weight[part]
        if to_weight is not None:
            found = down.t() @ states
            if rows.start:
                to_weight[part] += found
            else:
                to_weight[part] = found

    def done(self) -> tuple[Tensor | None, ...]:
        """In the order of the functions' arguments."""
        like = (self.dtype, self.head.weight.dtype, None if self.head.bias is None else self.head.bias.dtype)
        found = [None if s is None else s.to(d) for s, d in zip(self.sums, like, strict=True)]
        return *found, *[None] * 4
