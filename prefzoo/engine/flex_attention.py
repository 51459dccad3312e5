"""Packed attention as one kernel for all blocks (FlexAttention), for GPUs; tiles that no query sees are skipped."""

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
    """(B, T, H, D) attention of the queries (B, H, T, D) to keys and values (B, K, T, D): see `attention.attend`.

    Args:
        kernel: what computes it; compiled for the device if left out.
    """

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap) if cap else score

    if torch.is_autocast_enabled(query.device.type):  # which does not know this function
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (x.to(dtype) for x in (query, key, value))
    found: Tensor = (kernel or _compiled())(
        query, key, value, score_mod=capped if cap else None, block_mask=_mask(tuple(blocks), window, query.device),
        scale=scale, enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return found.transpose(1, 2)


@lru_cache(maxsize=1)
def _compiled() -> Compiled:
    return torch.compile(flex_attention, dynamic=True)


@lru_cache(maxsize=4)  # all layers of a pass share it
def _mask(blocks: tuple[tuple[int, int, int], ...], window: int | None, device: torch.device) -> BlockMask:
    sizes = torch.tensor(blocks, device=device).flatten()
    part = torch.arange(3, device=device).repeat(len(blocks)).repeat_interleave(sizes)  # prompt, first, second
    block = torch.arange(len(blocks), device=device).repeat_interleave(sizes.view(-1, 3).sum(1))
    place = torch.cat([torch.arange(n, device=device) for b in blocks for n in (b[0] + b[1], b[2])])
    # the second answer's positions go on where the prompt's end
    place = place + torch.where(part == 2, sizes.view(-1, 3)[:, 0][block], 0)  # noqa: PLR2004

    def sees(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        own = (block[q] == block[k]) & ((part[k] == 0) | (part[k] == part[q]) | (part[q] < 2) & (part[k] < 2))  # noqa: PLR2004
        near = own & (k <= q)
        return near if window is None else near & (place[q] - place[k] < window)

    return create_block_mask(sees, None, None, len(part), len(part), device=str(device))
