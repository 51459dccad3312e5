"""Attention within all blocks of a packed batch as one call on rows of equal length.

It covers what the kernel of `varlen_attention` does not support: fp32, soft-capping, dropout, other head sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from prefzoo.engine.block_index import BlockIndex


def attend(
    query: Tensor, key: Tensor, value: Tensor, index: BlockIndex, scaling: float | None, window: int | None,
    cap: float | None = None, dropout: float = 0.0,
) -> Tensor:  # fmt: skip
    """Attend within packed blocks.

    Args:
        query: (1, H, T, D) queries of H heads.
        key: (1, K, T, D) keys of K heads; H is a multiple of K.
        value: (1, K, T, E) values.
        index: The blocks.
        scaling: Factor of the scores; 1 / sqrt(D) if None.
        window: Width of a sliding window in tokens; None for no window.
        cap: Soft-capping of the scores; none if None or 0.
        dropout: Dropout rate of the attention weights.

    Returns:
        (1, T, H, E) outputs.
    """
    rows, mask = index.padded(query.device), index.mask(query.device, window)
    q, k, v = (
        x.squeeze(0).index_select(1, rows.tokens).view(x.shape[1], rows.rows, -1, x.shape[3]).transpose(0, 1)
        for x in (query, key, value)
    )
    if cap:
        output = plain(q, k, v, mask, scaling, cap, dropout)
    else:  # with a mask, torch's memory-efficient kernel needs as many heads of keys as of queries
        k, v = (_repeated(x, q.shape[1] // x.shape[1]) for x in (k, v))
        output = scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, scale=scaling)
    return output.transpose(1, 2).flatten(0, 1).index_select(0, rows.places)[None]


def _repeated(x: Tensor, times: int) -> Tensor:
    b, heads, t, d = x.shape
    return x[:, :, None].expand(b, heads, times, t, d).reshape(b, heads * times, t, d)


def plain(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None, cap: float | None, dropout: float
) -> Tensor:
    """Compute attention by two matrix products, with all scores in memory at once.

    Args:
        query: (B, H, T, D) queries of H heads.
        key: (B, K, S, D) keys of K heads; H is a multiple of K.
        value: (B, K, S, E) values.
        mask: (B or 1, 1, T, S) mask, true where a query sees a key, or numbers that are added to the scores.
        scaling: Factor of the scores; 1 / sqrt(D) if None.
        cap: Soft-capping of the scores; none if None or 0.
        dropout: Dropout rate of the attention weights.

    Returns:
        (B, H, T, E) outputs.
    """
    (b, h, t, d), (k, s) = query.shape, key.shape[1:3]
    scale = d**-0.5 if scaling is None else scaling
    scores = (query * scale).reshape(b, k, h // k * t, d) @ key.transpose(-1, -2)
    if cap:
        scores = cap * torch.tanh(scores / cap)
    scores, mask = scores.view(b, k, h // k, t, s), mask[:, :, None]
    # finite: a query that sees nothing (left padding) would give NaN, which spreads to the gradients of its keys
    scores = scores.masked_fill_(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    weights = torch.dropout(scores.softmax(-1), dropout, dropout > 0).view(b, k, h // k * t, s)
    return (weights @ value).reshape(b, h, t, -1)
