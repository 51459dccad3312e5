"""Compute packed attention as one FlexAttention kernel for all blocks, on GPUs; it skips tiles that no query sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

Blocks = Sequence[tuple[int, int, int]]
Compiled = Callable[..., Any]


def attend(
    query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, scale: float | None, window: int | None,
    cap: float | None, *, kernel: Compiled | None = None,
) -> Tensor:  # fmt: skip
    """Attend within packed blocks, as `packed_attention.attend` does.

    Args:
        query: (B, H, T, D) queries of H heads.
        key: (B, K, T, D) keys of K heads; H is a multiple of K.
        value: (B, K, T, D) values.
        blocks: For each block the tokens of its prompt, first and second answer.
        scale: Factor of the scores; 1 / sqrt(D) if None.
        window: Width of a sliding window in tokens; None for none.
        cap: Soft-capping of the scores; none if None or 0.
        kernel: The function that computes it; FlexAttention compiled for the device if None.

    Returns:
        (B, T, H, D) outputs.
    """

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap) if cap else score

    if torch.is_autocast_enabled(query.device.type):  # autocast does not know flex_attention
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (x.to(dtype) for x in (query, key, value))
    output: Tensor = (kernel or _compiled())(
        query, key, value, score_mod=capped if cap else None, block_mask=_mask(tuple(blocks), window, query.device),
        scale=scale, enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return output.transpose(1, 2)


@lru_cache(maxsize=1)
def _compiled() -> Compiled:
    return torch.compile(flex_attention, dynamic=True)


@lru_cache(maxsize=4)  # all layers of a pass share a mask
def _mask(blocks: tuple[tuple[int, int, int], ...], window: int | None, device: torch.device) -> BlockMask:
    sizes = torch.tensor(blocks, device=device).flatten()
    part = torch.arange(3, device=device).repeat(len(blocks)).repeat_interleave(sizes)  # prompt, first, second
    block = torch.arange(len(blocks), device=device).repeat_interleave(sizes.view(-1, 3).sum(1))
    position = torch.cat([torch.arange(n, device=device) for b in blocks for n in (b[0] + b[1], b[2])])
    # the second answer's positions continue after the prompt
    position = position + torch.where(part == 2, sizes.view(-1, 3)[:, 0][block], 0)  # noqa: PLR2004

    def sees(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        own = (block[q] == block[k]) & ((part[k] == 0) | (part[k] == part[q]) | (part[q] < 2) & (part[k] < 2))  # noqa: PLR2004
        near = own & (k <= q)
        return near if window is None else near & (position[q] - position[k] < window)

    return create_block_mask(sees, None, None, len(part), len(part), device=str(device))
