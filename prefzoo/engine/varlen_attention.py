"""Attention within all blocks of a packed batch as one FlashAttention kernel over sequences of different lengths.

A prompt with its first answer is one sequence. A second answer is another sequence, whose keys are gathered from its
prompt and itself; it has fewer queries than keys, and its last query sees its last key. The kernel needs no copies of
keys that several heads of queries share.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from prefzoo.engine.block_index import BlockIndex

HEAD_MULTIPLE, MAX_HEAD = 8, 256  # sizes of heads that FlashAttention supports
MAX_SMALL_CARD_HEAD = 192  # with gradients, on cards whose multiprocessors have less memory
AMPERE = (8, 0)  # oldest compute capability that FlashAttention 2 supports
LARGE = ((8, 0), (9, 0), (10, 0))  # compute capabilities of cards for data centres
NO_DROPOUT, NO_DEBUG_MASK = 0.0, False  # arguments of the kernel that stay the same


def attend(
    query: Tensor, key: Tensor, value: Tensor, index: BlockIndex, scaling: float | None, window: int | None
) -> Tensor:
    """Attend within packed blocks; `fits` must be true.

    Args:
        query: (1, H, T, D) queries of H heads, in any precision under autocast, else in half precision.
        key: (1, K, T, D) keys of K heads; H is a multiple of K.
        value: (1, K, T, D) values.
        index: The blocks.
        scaling: Factor of the scores; 1 / sqrt(D) if None.
        window: Width of a sliding window in tokens; None for no window.

    Returns:
        (1, T, H, D) outputs, in half precision.
    """
    dtype = _dtype(query)
    own = index.sequences(query.device)
    # squeezed, not indexed, because the gradient of indexing copies into zeros
    q, k, v = (x.squeeze(0).transpose(0, 1).to(dtype) for x in (query, key, value))
    if own.keys is not None:
        k, v = k.index_select(0, own.keys), v.index_select(0, own.keys)
    left = -1 if window is None or window >= index.longest else window - 1
    # the operator below torch.nn.attention.varlen.varlen_attn, whose wrappers in Python take the processor eight times
    # as long as this call, and three more launches a layer
    output: Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, own.query_starts, own.key_starts, own.most_queries, own.most_keys, NO_DROPOUT, left < 0, NO_DEBUG_MASK,
        scale=scaling, window_size_left=left, window_size_right=0,
    )[0]  # fmt: skip
    return output[None]


def fits(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Return whether the kernel takes such queries, keys and values.

    Args:
        query: (B, H, T, D) queries.
        key: (B, K, T, D) keys.
        value: (B, K, T, D) values.

    Returns:
        True if `attend` can compute them.
    """
    size = query.shape[-1]
    alike = size == key.shape[-1] == value.shape[-1] and size % HEAD_MULTIPLE == 0
    return alike and _dtype(query) in (torch.bfloat16, torch.float16) and size <= largest_head(query.device)


def _dtype(query: Tensor) -> torch.dtype:
    """Return the precision of matrix products, because autocast does not cast the inputs of this kernel."""
    device = query.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype


@lru_cache
def largest_head(device: torch.device) -> int:
    """Return the largest size of a head that the kernel takes on a device; 0 without the kernel."""
    if device.type != "cuda" or not torch.backends.cuda.is_flash_attention_available():
        return 0
    capability = torch.cuda.get_device_capability(device)
    if capability < AMPERE:
        return 0
    return MAX_HEAD if capability in LARGE else MAX_SMALL_CARD_HEAD
