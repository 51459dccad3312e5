"""KL divergence between two models' next-token distributions over the whole vocabulary, in tiles of logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from prefzoo.engine.lm_head import DEFAULT_TILE, TILES, GradientSums, LMHead, Tile, tile_slices
from prefzoo.engine.online_softmax import OnlineSoftmax


def token_kl(states: Tensor, head: LMHead, theirs: Tensor, their_head: LMHead, *, tile: Tile = None) -> Tensor:
    r"""(N,) $\mathrm{KL}(\pi_{ref} \| \pi)$ at each position over the whole vocabulary, differentiable in the policy.

    Args:
        states, theirs: (N, D) hidden states of the policy and of the reference.
    """
    size = tile or TILES.get(states.device.type, DEFAULT_TILE)
    found: Tensor = _TokenKL.apply(states, head.weight, head.bias, head, theirs, their_head, size)  # type: ignore[no-untyped-call]
    return found


class _TokenKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, head: LMHead, theirs: Tensor, their_head: LMHead,
        tile: tuple[int, int],
    ) -> Tensor:  # fmt: skip
        ctx.head, ctx.their_head, ctx.tile = head, their_head, tile
        head, their_head = head.to(states.dtype), their_head.to(states.dtype)
        wide = torch.float64 if states.dtype == torch.float64 else torch.float32
        kls, ours, references = [], [], []
        for rows in tile_slices(len(states), tile[0]):
            mine, their = (
                OnlineSoftmax.start(states.new_empty(len(states[rows]), 0, dtype=wide), False) for _ in range(2)
            )
            gap = mine.top.new_zeros(len(states[rows]), 1)
            for part in tile_slices(len(weight), tile[1]):
                p, q = head.logits(states[rows], part), their_head.logits(theirs[rows], part)
                difference = q - p
                mine.add(p, spend=True)
                each, shrink = their.add(q, spend=True)
                gap = gap * shrink + difference.mul_(each).sum(-1, keepdim=True)
            kls.append((gap / their.total + mine.lse - their.lse).squeeze(-1))
            ours.append(mine.lse)
            references.append(their.lse)
        ctx.save_for_backward(states, theirs, torch.cat(ours), torch.cat(references))
        return torch.cat(kls)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, theirs, lse, their_lse = ctx.saved_tensors
        sums, head, their_head = GradientSums(ctx, states), ctx.head.to(states.dtype), ctx.their_head.to(states.dtype)
        for rows in tile_slices(len(states), ctx.tile[0]):
            for part in tile_slices(len(head.weight), ctx.tile[1]):
                logits, other = head.logits(states[rows], part), their_head.logits(theirs[rows], part)
                down = (logits - lse[rows]).exp_().sub_((other - their_lse[rows]).exp_()).mul_(grad[rows, None])
                sums.add(states[rows], head, head.grad_of_products(down, logits), rows, part)
        return sums.done()
