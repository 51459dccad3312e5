"""Compute N LoRA adapters of one shape on one frozen model, with three products per linear layer for all of them.

The adapters' weights are one tensor with a row for each adapter. They are cast once per step in one operation, and the
gradients of all layers are cast back in one; each adapter's optimiser updates its row. A layer multiplies all inputs
of a pass by its frozen weight at once, and the n-th part of the inputs by the n-th adapter's A and B in batched
products, so that many adapters take as many launches as one.

Rounding may depend on the number of rows of a product. On CPUs, where it costs nothing, the frozen weights are
therefore multiplied part by part, as they were to score the reference: at the first step, the log-probs of policy and
reference are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from prefzoo.types import to_device

PART_BY_PART = ("cpu",)  # devices where several products cost no more than one of all their rows
DOWN, UP = "lora_A", "lora_B"  # parts of the names of A and B


class AdapterStack:
    """The weights of V adapters of one shape.

    Attributes:
        rows: (V, P) weights in fp32, a row for each adapter: all A, then all B.
        scales: (V, 1) factors of B A x (alpha / rank).
        shapes: Shapes of A and B of each layer, by name, in the model's order.
        slots: Slice of a row that holds each weight, by name, in the row's order.
        ups: Index in a row of the first B.
        active: Numbers of the adapters of the next forward pass, in the order of the batch's parts.
        current: (N, ...) weights of the active adapters, by name, in the precision of products.
    """

    def __init__(self, fresh: Mapping[str, Tensor], scales: Sequence[float]) -> None:
        """Start all adapters from the same weights.

        Args:
            fresh: Initial A and B of each layer, by name.
            scales: alpha / rank of each of the V adapters.
        """
        self.shapes = {name: value.shape for name, value in fresh.items()}
        names = sorted(fresh, key=lambda name: UP in name)  # sorted() keeps the order of each kind
        ends = list(accumulate((self.shapes[name].numel() for name in names), initial=0))
        self.slots = {name: slice(*own) for name, *own in zip(names, ends, ends[1:], strict=False)}
        self.ups = ends[sum(UP not in name for name in names)]
        row = torch.cat([fresh[name].detach().flatten() for name in names]).float()
        self.rows = nn.Parameter(row.expand(len(scales), -1).clone())
        self.scales = to_device([torch.tensor(scales)], row.device)[0][:, None]
        self.active: Sequence[int] = range(len(scales))
        self.current: Mapping[str, Tensor] = {}
        self._copies: dict[tuple[int, ...], dict[str, Tensor]] = {}
        self._dtype = torch.float32

    def weights(self, number: int) -> dict[str, Tensor]:
        """Return one adapter's weights by name: views of its row."""
        row = self.rows.detach()[number]
        return {name: row[self.slots[name]].view(shape) for name, shape in self.shapes.items()}

    @contextmanager
    def cast(self, dtype: torch.dtype) -> Iterator[None]:
        """Cast the weights once for all passes of one step, in which they do not change.

        Args:
            dtype: The precision of products.
        """
        self._dtype, self.rows.grad = dtype, None
        try:
            yield
        finally:
            self.current, self._copies = {}, {}

    def use(self, numbers: Sequence[int]) -> None:
        """Select the adapters for the next forward pass, or for computing its activations again."""
        self.active, key = numbers, tuple(numbers)
        if key not in self._copies:
            with torch.enable_grad():  # other passes of the step may need gradients
                copies: Sequence[Tensor] = _Copies.apply(self.rows, self, key, self._dtype)  # type: ignore[no-untyped-call]
            self._copies[key] = dict(zip(self.slots, copies, strict=True))
        self.current = self._copies[key]


class _Copies(torch.autograd.Function):
    """Cast the layers' A and scaled B of some adapters to the precision of products."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, stack: AdapterStack, numbers: tuple[int, ...], dtype: torch.dtype
    ) -> tuple[Tensor, ...]:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.stack, ctx.all = stack, numbers == tuple(range(len(rows)))
        ctx.index = slice(None) if ctx.all else to_device([torch.tensor(numbers)], rows.device)[0]
        own, ups = rows[ctx.index], stack.ups
        copy = torch.empty_like(own, dtype=dtype)
        copy[:, :ups].copy_(own[:, :ups])
        torch.mul(own[:, ups:], stack.scales[ctx.index], out=copy[:, ups:])
        return tuple(copy[:, at].view(len(copy), *stack.shapes[name]) for name, at in stack.slots.items())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        stack, some = ctx.stack, next(g for g in grads if g is not None)
        parts = zip(grads, stack.slots.values(), strict=True)
        wide = [some.new_zeros(len(some), at.stop - at.start) if g is None else g.flatten(1) for g, at in parts]
        joined = torch.cat(wide, 1).float()
        joined[:, stack.ups :].mul_(stack.scales[ctx.index])
        if ctx.all:
            return joined, None, None, None
        return torch.zeros_like(stack.rows).index_copy_(0, ctx.index, joined), None, None, None


def adapted(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, dropout: float = 0.0
) -> Tensor:  # fmt: skip
    """Return W x + b + B_n A_n x for the n-th part of the rows (Hu 2021, arXiv:2106.09685).

    Args:
        x: (..., I) inputs of all parts, one after another.
        weight: (O, I) frozen weight W.
        bias: (O,) frozen bias, or None.
        down: (N, r, I) A of each part, in the precision of products.
        up: (N, O, r) B of each part, times alpha / rank.
        dropout: Dropout rate of the adapters' inputs. The same units are dropped in all parts, and they are those that
            are dropped when one adapter is trained alone.

    Returns:
        (..., O) outputs, in the precision of products.
    """
    rows = x.to(down.dtype).reshape(len(down), -1, x.shape[-1])
    kept = torch.native_dropout(torch.ones_like(rows[0]), dropout, True)[1] if dropout else None
    result: Tensor = _Adapted.apply(rows, weight, bias, down, up, kept, dropout)  # type: ignore[no-untyped-call]
    return result.view(*x.shape[:-1], -1)


def part_by_part(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return W x + b; on CPUs, with a separate product for each part.

    Args:
        rows: (N, T, I) inputs of N parts.
        weight: (O, I) weight.
        bias: (O,) bias, or None.

    Returns:
        (N, T, O) outputs.
    """
    if rows.device.type not in PART_BY_PART:
        return linear(rows, weight, bias)
    return torch.stack([linear(own, weight, bias) for own in rows])


class _Adapted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, kept: Tensor | None,
        dropout: float,
    ) -> Tensor:  # fmt: skip
        with torch.autocast(rows.device.type, enabled=False):
            weight = weight.to(rows.dtype)  # changes only layers that could not be stored in this precision
            low = torch.bmm(_dropped(rows, kept, dropout), down.transpose(1, 2))
            result = part_by_part(rows, weight, None if bias is None else bias.to(rows.dtype))
            ctx.save_for_backward(rows, kept, low, weight, down, up)
            ctx.dropout = dropout
            return result.baddbmm_(low, up.transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, kept, low, weight, down, up = ctx.saved_tensors
        to_low, to_rows = torch.bmm(grad, up), None
        if ctx.needs_input_grad[0]:
            to_rows = grad @ weight
            if kept is None:
                to_rows.baddbmm_(to_low, down)
            else:
                to_rows.addcmul_(torch.bmm(to_low, down), kept, value=1 / (1 - ctx.dropout))
        to_down = torch.bmm(to_low.transpose(1, 2), _dropped(rows, kept, ctx.dropout))
        to_up = torch.bmm(grad.transpose(1, 2), low)
        return to_rows, None, None, to_down, to_up, None, None


def _dropped(rows: Tensor, kept: Tensor | None, dropout: float) -> Tensor:
    """Return the adapters' inputs after dropout; the backward pass computes them again, to save memory per layer."""
    return rows if kept is None else (rows * kept).mul_(1 / (1 - dropout))
