"""Attention over packed blocks: a prompt followed by one or two answers that do not see each other.

On CPUs, `cpu_attention` computes it. On GPUs, one kernel per layer computes all blocks: `varlen_attention` in half
precision, `padded_attention` otherwise. Dropout of attention weights always takes `padded_attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prefzoo.engine import cpu_attention, padded_attention, varlen_attention
from prefzoo.engine.attention_registry import register
from prefzoo.engine.block_index import BlockIndex, Blocks

NAME = "prefzoo"
CPU_KERNELS = ("cpu",)  # devices where `cpu_attention` is fastest
MAX_PLAIN_TOKENS = 512  # longest rows whose scores are computed all at once on CPUs, which is faster
BLOCKS = "prefzoo_blocks"  # keyword of a forward pass that passes a `BlockIndex` to every layer


def install(model: Any) -> None:
    """Make a model use `attend` instead of torch's fused attention; models that cannot do so are left unchanged."""
    from transformers.masking_utils import sdpa_mask

    capped = getattr(model.config, "attn_logit_softcapping", None)  # Gemma 2: torch's fused attention has no cap
    settable = getattr(type(model), "_can_set_attn_implementation", lambda: True)()  # False for Falcon
    if not settable or not (getattr(model, "_supports_sdpa", False) or capped):
        return
    register(model, NAME, attend, sdpa_mask)


def forward_kwargs(blocks: Blocks) -> dict[str, Any]:
    """Return keywords for a model's forward pass over blocks; the 4D mask is a placeholder that is not read."""
    return {BLOCKS: BlockIndex(blocks), "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool)}


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Compute grouped-query attention with the signature that transformers expects of attention functions.

    With blocks, attention is causal within each answer's own sequence and the mask is ignored. Without blocks and
    soft-capping, long rows, single queries (generation), dropout and GPUs use torch's fused kernel.

    Args:
        module: The attention layer.
        query: (B, H, T, D) queries of H heads.
        key: (B, K, S, D) keys of K heads; H is a multiple of K.
        value: (B, K, S, D) values.
        attention_mask: (B or 1, 1, T, S) mask, true where a query sees a key; causal if None.
        scaling: Factor of the scores; 1 / sqrt(D) if None.
        dropout: Dropout rate of the attention weights.
        **kwargs: Blocks, sliding window, soft-capping, and other arguments of the architecture.

    Returns:
        (B, T, H, D) outputs, and None in place of the attention weights.

    Raises:
        ValueError: Blocks are given to an architecture with position biases or sinks, which cannot be packed.
    """
    special = any(kwargs.get(name) is not None for name in ("position_bias", "s_aux"))
    window, cap = kwargs.get("sliding_window"), kwargs.get("softcap")
    if BLOCKS in kwargs:
        if special:  # not implemented here; `choose_layout` catches the error
            raise ValueError("this architecture's attention cannot be packed")
        return _packed(query, key, value, kwargs[BLOCKS], scaling, window, cap, dropout), None
    if not cap and (query.device.type != "cpu" or query.shape[2] == 1 or _long(query, key) or special or dropout):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output, None
    mask = _causal(query.shape[2], key.shape[2], query.device) if attention_mask is None else attention_mask
    output = padded_attention.plain(query, key, value, mask, scaling, cap, dropout)
    return output.transpose(1, 2).contiguous(), None


def _packed(
    query: Tensor, key: Tensor, value: Tensor, index: BlockIndex, scaling: float | None, window: int | None,
    cap: float | None, dropout: float,
) -> Tensor:  # fmt: skip
    """Attend within each block: the prompt with its first answer, then its second answer after the same prompt."""
    if query.device.type in CPU_KERNELS and not dropout:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return cpu_attention.attend(
            query, key, value, index.blocks, cpu_attention.AttentionKind(scale, window, cap or 0.0)
        )
    if not cap and not dropout and varlen_attention.fits(query, key, value):
        return varlen_attention.attend(query, key, value, index, scaling, window)
    return padded_attention.attend(query, key, value, index, scaling, window, cap, dropout)


def _causal(t: int, s: int, device: torch.device) -> Tensor:
    """Return the (1, 1, t, s) causal mask, for when transformers passes none.

    A single query sees all s keys; t queries see only the first t, because later keys of a cache are not written yet.
    """
    return torch.ones(t, s, dtype=torch.bool, device=device).tril(s if t == 1 else 0)[None, None]


def _long(query: Tensor, key: Tensor) -> bool:
    return query.shape[2] * key.shape[2] > MAX_PLAIN_TOKENS**2
