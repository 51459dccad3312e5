"""Attention over packed blocks: a prompt with one or two answers behind it, which do not see each other.

On CPUs two matrix products serve short blocks: they take a quarter of the time of torch's fused kernel there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "prefzoo"
LONGEST = 512  # tokens up to which all scores at once are affordable on CPUs, and faster
BLOCKS = "prefzoo_blocks"  # the keyword by which a forward pass hands `PairBatch.blocks` to every layer


def install(model: Any) -> None:
    """Let `model` attend with `attend` wherever it would with torch's fused attention."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    capped = getattr(model.config, "attn_logit_softcapping", None)  # Gemma 2: torch's fused attention has no cap
    if not (getattr(model, "_supports_sdpa", False) or capped):
        return
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def inputs(blocks: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """Keywords for the forward pass of a model that has `attend`; the mask of four dimensions is handed on unread."""
    return {BLOCKS: tuple(blocks), "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool)}


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Grouped-query attention: query (B, H, T, D), key and value (B, K, S, D); returns (B, T, H, D).

    `attention_mask` (B or 1, 1, T, S) is true where a query sees a key; without one it is causal. With blocks, it is
    causal within each answer's own sequence, whatever the mask says. Long rows, single queries (generation), dropout
    and GPUs go to torch's fused kernel.
    """
    special = any(kwargs.get(name) is not None for name in ("position_bias", "s_aux"))
    if BLOCKS in kwargs:
        if special:  # biases and sinks are not implemented here; the probe of layouts takes this for a no
            raise ValueError("this architecture's attention cannot be packed")
        return _packed(query, key, value, scaling, dropout, kwargs), None
    cap = kwargs.get("softcap")
    if not cap and (query.device.type != "cpu" or query.shape[2] == 1 or _long(query, key) or special or dropout):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return found, None
    mask = _causal(query.shape[2], key.shape[2], None, query.device) if attention_mask is None else attention_mask
    return _plain(query, key, value, mask, scaling, cap, dropout).transpose(1, 2).contiguous(), None


def _packed(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float, kwargs: dict[str, Any]
) -> Tensor:
    """Each block's prompt with its first answer, then its second answer behind the same prompt."""
    parts, start = [], 0
    for prompt, first, second in kwargs[BLOCKS]:
        middle, end = start + prompt + first, start + prompt + first + second
        one = slice(start, middle)
        parts.append(_answer(query[:, :, one], key[:, :, one], value[:, :, one], scaling, dropout, kwargs))
        if second:
            k, v = (torch.cat((x[:, :, start : start + prompt], x[:, :, middle:end]), dim=2) for x in (key, value))
            parts.append(_answer(query[:, :, middle:end], k, v, scaling, dropout, kwargs))
        start = end
    return torch.cat([part.transpose(1, 2) for part in parts], dim=1)


def _answer(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float, kwargs: dict[str, Any]
) -> Tensor:
    """(B, H, T, D) causal attention of the last T of S positions."""
    t, s = query.shape[2], key.shape[2]
    window, cap = kwargs.get("sliding_window"), kwargs.get("softcap")
    window = None if window is None or window >= s else window
    if cap or (query.device.type == "cpu" and not dropout and not _long(query, key)):
        return _plain(query, key, value, _causal(t, s, window, query.device), scaling, cap, dropout)
    square = t == s and window is None
    mask = None if square else _causal(t, s, window, query.device)
    return scaled_dot_product_attention(
        query, key, value, mask, dropout_p=dropout, is_causal=square, scale=scaling, enable_gqa=True
    )


def _plain(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None, cap: float | None, dropout: float
) -> Tensor:
    (b, h, t, d), (k, s) = query.shape, key.shape[1:3]
    scale = d**-0.5 if scaling is None else scaling
    scores = (query * scale).reshape(b, k, h // k * t, d) @ key.transpose(-1, -2)
    if cap:
        scores = cap * torch.tanh(scores / cap)
    scores, mask = scores.view(b, k, h // k, t, s), mask[:, :, None]
    # finite, so that a query that sees nothing (left padding) yields no NaN, which would spread through its keys
    scores = scores.masked_fill_(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    weights = torch.dropout(scores.softmax(-1), dropout, dropout > 0).view(b, k, h // k * t, s)
    return (weights @ value).reshape(b, h, t, d)


def _causal(t: int, s: int, window: int | None, device: torch.device) -> Tensor:
    """(1, 1, t, s) true where the last t of s positions see a key: itself and what is before it, in its window."""
    mask = torch.ones(t, s, dtype=torch.bool, device=device).tril(s - t)
    return (mask if window is None else mask.triu(s - t - window + 1))[None, None]


def _long(query: Tensor, key: Tensor) -> bool:
    return query.shape[2] * key.shape[2] > LONGEST**2
