"""Compute the KL divergence between two models' next-token distributions, in tiles of logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from prefzoo.engine.lm_head import GradientSums, LMHead, Tile, tile_size, tile_slices
from prefzoo.engine.online_softmax import OnlineSoftmax, rescaled_sum


def token_kl(
    states: Tensor, head: LMHead, reference_states: Tensor, reference_head: LMHead, *, tile: Tile = None
) -> Tensor:
    r"""Return $\mathrm{KL}(\pi_{ref} \| \pi)$ over the whole vocabulary at each position.

    Differentiable in the policy's states and head, not in the reference's.

    Args:
        states: (N, D) hidden states of the policy.
        head: The policy's head.
        reference_states: (N, D) hidden states of the reference at the same positions.
        reference_head: The reference's head.
        tile: Numbers of tokens and vocabulary entries whose logits are in memory at once; None suits the device.

    Returns:
        (N,) KL divergences in nats, in fp32 (fp64 for fp64 states).
    """
    size = tile or tile_size(states.device.type, len(head.weight))
    kl: Tensor = _TokenKL.apply(  # type: ignore[no-untyped-call]
        states, head.weight, head.bias, head, reference_states, reference_head, size
    )
    return kl


class _TokenKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, head: LMHead, reference_states: Tensor,
        reference_head: LMHead, tile: tuple[int, int],
    ) -> Tensor:  # fmt: skip
        ctx.head, ctx.reference_head, ctx.tile = head, reference_head, tile
        head, reference_head = head.to(states.dtype), reference_head.to(states.dtype)
        kls, lses, reference_lses = [], [], []
        for rows in tile_slices(len(states), tile[0]):
            policy, reference = OnlineSoftmax(), OnlineSoftmax()
            gap: Tensor | float = 0.0
            for part in tile_slices(len(weight), tile[1]):
                p, q = head.logits(states[rows], part), reference_head.logits(reference_states[rows], part)
                difference = q - p
                policy.add(p, overwrite=True)
                each, shrink = reference.add(q, overwrite=True)
                gap = rescaled_sum(gap, shrink, difference.mul_(each).sum(-1, keepdim=True))
            kls.append((gap / reference.total + policy.lse - reference.lse).squeeze(-1))
            lses.append(policy.lse)
            reference_lses.append(reference.lse)
        ctx.save_for_backward(states, reference_states, torch.cat(lses), torch.cat(reference_lses))
        return torch.cat(kls)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, reference_states, lse, reference_lse = ctx.saved_tensors
        sums, head = GradientSums(ctx, states), ctx.head.to(states.dtype)
        reference_head = ctx.reference_head.to(states.dtype)
        for rows in tile_slices(len(states), ctx.tile[0]):
            for part in tile_slices(len(head.weight), ctx.tile[1]):
                logits, other = head.logits(states[rows], part), reference_head.logits(reference_states[rows], part)
                down = (logits - lse[rows]).exp_().sub_((other - reference_lse[rows]).exp_()).mul_(grad[rows, None])
                down = head.grad_of_products(down, logits)
                del logits, other
                down = sums.narrow(down, part)  # the wide tile leaves memory before the products need theirs
                sums.add(states[rows], head, down, rows, part)
                del down  # before the next tile
        return sums.result()
