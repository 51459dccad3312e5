"""Attention over packed blocks: a prompt followed by one or two answers that do not see each other.

On CPUs, two matrix products per piece of queries compute it: in bf16 they take at most half the time of torch's fused
kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from prefzoo.engine import autotune, flex_attention
from prefzoo.engine.attention_registry import register

Blocks = Sequence[tuple[int, int, int]]
NAME = "prefzoo"
QUERIES_PER_PIECE = 192  # queries at a time: fewer cost overhead, more cost products with keys that they do not see
MAX_SAVED_KEYS = 512  # up to so many keys, attention weights are saved for the backward pass; otherwise recomputed
MAX_PLAIN_TOKENS = 512  # tokens up to which computing all scores at once fits into memory on CPUs, and is faster
AUTOTUNED_DEVICES = ("cuda",)  # devices where the implementation that measures fastest is used
BLOCKS = "prefzoo_blocks"  # keyword of a forward pass that passes `PairBatch.blocks` to every layer


def install(model: Any) -> None:
    """Make `model` use `attend` in place of torch's fused attention; models without it stay as they are."""
    from transformers.masking_utils import sdpa_mask

    capped = getattr(model.config, "attn_logit_softcapping", None)  # Gemma 2: torch's fused attention has no cap
    if not (getattr(model, "_supports_sdpa", False) or capped):
        return
    register(model, NAME, attend, sdpa_mask)


def forward_kwargs(blocks: Blocks) -> dict[str, Any]:
    """Return keywords for a model's forward pass over blocks; transformers passes a 4D mask through unread."""
    return {BLOCKS: tuple(blocks), "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool)}


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Compute grouped-query attention with the signature that transformers expects of attention functions.

    With blocks, attention is causal within each answer's own sequence and the mask is ignored. Long rows, single
    queries (generation), dropout and GPUs use torch's fused kernel.

    Args:
        module: The attention layer.
        query: (B, H, T, D) queries of H heads.
        key: (B, K, S, D) keys of K heads; H is a multiple of K.
        value: (B, K, S, D) values.
        attention_mask: (B or 1, 1, T, S) mask, true where a query sees a key; causal if None.
        scaling: Factor of the scores; 1 / sqrt(D) if None.
        dropout: Share of the attention weights that is dropped.
        **kwargs: Blocks, sliding window, soft-capping, and what the architecture adds.

    Returns:
        (B, T, H, D) outputs, and None in place of the attention weights.

    Raises:
        ValueError: Blocks are given to an architecture with position biases or sinks, which cannot be packed.
    """
    special = any(kwargs.get(name) is not None for name in ("position_bias", "s_aux"))
    if BLOCKS in kwargs:
        if special:  # biases and sinks are not implemented here; `choose_layout` catches this
            raise ValueError("this architecture's attention cannot be packed")
        return _packed(query, key, value, scaling, dropout, kwargs), None
    cap = kwargs.get("softcap")
    if not cap and (query.device.type != "cpu" or query.shape[2] == 1 or _long(query, key) or special or dropout):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output, None
    mask = _causal(query.shape[2], key.shape[2], None, query.device) if attention_mask is None else attention_mask
    return _plain(query, key, value, mask, scaling, cap, dropout).transpose(1, 2).contiguous(), None


def _packed(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float, kwargs: dict[str, Any]
) -> Tensor:
    """Attend within each block: the prompt with its first answer, then its second answer after the same prompt."""
    blocks = kwargs[BLOCKS]
    if _by_pieces(query, blocks, dropout, kwargs):
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        output: Tensor = _Pieces.apply(query, key, value, blocks, scale)  # type: ignore[no-untyped-call]
        return output
    if query.device.type in AUTOTUNED_DEVICES and not dropout:
        return _fastest(query, key, value, scaling, kwargs)
    return _one_by_one(query, key, value, scaling, kwargs, dropout)


def _fastest(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, kwargs: dict[str, Any]) -> Tensor:
    """Use one kernel for all blocks or one call per answer, whichever is faster for these powers of two of sizes."""
    sizes = f"2^{query.shape[2].bit_length()} tokens, 2^{len(kwargs[BLOCKS]).bit_length()} blocks"
    limits = f"window {kwargs.get('sliding_window')}, cap {kwargs.get('softcap')}"
    work = f"attention {query.dtype} {query.shape[1]}/{key.shape[1]} heads of {query.shape[3]}, {sizes}, {limits}"
    ways = {
        name: partial(_forward_and_backward, way, query, key, value, scaling, kwargs)
        for name, way in IMPLEMENTATIONS.items()
    }
    best = autotune.CHOICES.of(work, ways, query.device, rough=query.dtype != torch.float32)
    return IMPLEMENTATIONS[best](query, key, value, scaling, kwargs)


@torch.enable_grad()
def _forward_and_backward(
    way: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, scaling: float | None,
    kwargs: dict[str, Any], turn: int,
) -> list[Tensor]:  # fmt: skip
    """Return the output and its gradients; each turn rotates the blocks, and every other turn drops one."""
    blocks = list(kwargs[BLOCKS])
    at = turn % len(blocks)
    blocks = (blocks[at:] + blocks[:at])[: max(1, len(blocks) - turn % 2)]
    tokens = sum(map(sum, blocks))
    own = [x[:, :, :tokens].detach().requires_grad_() for x in (query, key, value)]
    output = way(*own, scaling, kwargs | {BLOCKS: tuple(blocks)})
    return [output.detach(), *torch.autograd.grad(output, own, torch.ones_like(output))]


def _flex(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, kwargs: dict[str, Any]) -> Tensor:
    window, cap = kwargs.get("sliding_window"), kwargs.get("softcap")
    return flex_attention.attend(query, key, value, kwargs[BLOCKS], scaling, window, cap)


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, kwargs: dict[str, Any], dropout: float = 0.0
) -> Tensor:
    blocks = kwargs[BLOCKS]
    sizes = [size for prompt, first, second in blocks for size in (prompt + first, second)]
    # split, not slices: the gradient of a slice is as long as the whole batch
    pieces = zip(*(torch.split(x, sizes, dim=2) for x in (query, key, value)), strict=True)
    parts = []
    for prompt, _, second in blocks:
        q, k, v = next(pieces)
        parts.append(_answer(q, k, v, scaling, dropout, kwargs))
        other, *own_keys = next(pieces)
        if second:
            k, v = (torch.cat((x[:, :, :prompt], own), dim=2) for x, own in zip((k, v), own_keys, strict=True))
            parts.append(_answer(other, k, v, scaling, dropout, kwargs))
    return torch.cat([part.transpose(1, 2) for part in parts], dim=1)


IMPLEMENTATIONS: dict[str, Callable[..., Tensor]] = {"one by one": _one_by_one, "flex": _flex}


def _by_pieces(query: Tensor, blocks: Blocks, dropout: float, kwargs: dict[str, Any]) -> bool:
    longest = max(prompt + max(first, second) for prompt, first, second in blocks)
    window = kwargs.get("sliding_window")
    plain = not dropout and not kwargs.get("softcap") and (window is None or window >= longest)
    return query.device.type == "cpu" and plain


class _Pieces(torch.autograd.Function):
    """Attention of every answer with its gradient written out: a third of the calls, and no copies of whole batches.

    Only some queries of a long answer are processed at a time, so that no more than their scores exist at once and few
    keys are scored that a query does not see. For T queries and the S keys of their prompt and answer:
    P = softmax(Q K' scale), O = P V, and in the backward pass
    dV = P' dO, dS = P * (dO V' - rowsum(P * dO V')), dQ = dS K scale, dK = dS' Q scale.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, scale: float) -> Tensor:
        # under autocast, products run in the lower precision whatever the inputs' dtype
        device = query.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
        (_, h, t, d), groups = query.shape, key.shape[1]
        # (K, H/K, T, D) and (K, T, D): queries that share their keys are adjacent
        q = (query[0] * scale).to(dtype).view(groups, h // groups, t, d)
        k, v = key[0].to(dtype), value[0].to(dtype)
        out = query.new_empty(1, t, h, d, dtype=dtype)
        saved = []
        for at, seen in _pieces(blocks):
            weights = _weights(q[:, :, at], _select(k, seen))
            out[0, at] = (weights @ _select(v, seen)).view(h, -1, d).transpose(0, 1)
            if weights.shape[-1] <= MAX_SAVED_KEYS:
                saved.append(weights)
        ctx.blocks, ctx.scale, ctx.dtypes = blocks, scale, (query.dtype, key.dtype, value.dtype)
        ctx.save_for_backward(q, k, v, *saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        (groups, share, t, d), dtype = q.shape, q.dtype
        to_q, to_k, to_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        down = grad[0].to(dtype).transpose(0, 1).reshape(groups, share, t, d)
        for at, seen in _pieces(ctx.blocks):
            rows, each = (x[:, :, at].reshape(groups, -1, d) for x in (q, down))
            keys, values = _select(k, seen), _select(v, seen)
            weights = saved.pop(0) if keys.shape[1] <= MAX_SAVED_KEYS else _weights(q[:, :, at], keys)
            of_weights = each @ values.transpose(1, 2)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, dtype)
            to_q[:, :, at] = (of_scores @ keys).view(groups, share, -1, d)
            _add_at(to_k, seen, of_scores.transpose(1, 2) @ rows)
            _add_at(to_v, seen, weights.transpose(1, 2) @ each)
        grads = to_q.view(1, groups * share, t, d).mul_(ctx.scale), to_k[None], to_v[None]
        return *(x.to(kind) for x, kind in zip(grads, ctx.dtypes, strict=True)), None, None


def _weights(queries: Tensor, keys: Tensor) -> Tensor:
    """Return the (K, H/K * T, S) attention weights of (K, H/K, T, D) queries, the last T of S positions of the keys."""
    groups, share, t, d = queries.shape
    scores = (queries.reshape(groups, share * t, d) @ keys.transpose(1, 2)).view(groups, share, t, -1)
    scores[..., -t:].add_(_bias(t, scores.dtype))  # all queries see what lies before the first of them
    return scores.softmax(-1).view(groups, share * t, -1)


def _pieces(blocks: Blocks) -> list[tuple[slice, tuple[slice, ...]]]:
    """Return slices of queries, each with the slices of keys that they see; the last key is the last query's."""
    pieces: list[tuple[slice, tuple[slice, ...]]] = []
    start = 0
    for prompt, first, second in blocks:
        middle, end = start + prompt + first, start + prompt + first + second
        shared = slice(start, start + prompt)
        for at in range(start, middle, QUERIES_PER_PIECE):
            last = min(at + QUERIES_PER_PIECE, middle)
            pieces.append((slice(at, last), (slice(start, last),)))
        for at in range(middle, end, QUERIES_PER_PIECE):
            last = min(at + QUERIES_PER_PIECE, end)
            pieces.append((slice(at, last), (shared, slice(middle, last))))
        start = end
    return pieces


def saved_attention_weights(blocks: Blocks) -> int:
    """Return how many attention weights one head of one layer saves for the backward pass on CPUs."""
    sizes = [(at.stop - at.start, sum(part.stop - part.start for part in seen)) for at, seen in _pieces(blocks)]
    return sum(queries * keys for queries, keys in sizes if keys <= MAX_SAVED_KEYS)


def _select(keys: Tensor, seen: tuple[slice, ...]) -> Tensor:
    return keys[:, seen[0]] if len(seen) == 1 else torch.cat([keys[:, part] for part in seen], dim=1)


def _add_at(sums: Tensor, seen: tuple[slice, ...], values: Tensor) -> None:
    at = 0
    for part in seen:
        size = part.stop - part.start
        sums[:, part] += values[:, at : at + size]
        at += size


@lru_cache(maxsize=2 * QUERIES_PER_PIECE)
def _bias(t: int, dtype: torch.dtype) -> Tensor:
    """Return a (t, t) matrix with minus infinity above the diagonal and zero elsewhere."""
    return torch.full((t, t), -torch.inf, dtype=dtype).triu_(1)


def _answer(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float, kwargs: dict[str, Any]
) -> Tensor:
    """Return the (B, H, T, D) causal attention of the last T of S positions."""
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
    # finite, so that a query that sees nothing (left padding) gives no NaN, which would spread to its keys' gradients
    scores = scores.masked_fill_(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    weights = torch.dropout(scores.softmax(-1), dropout, dropout > 0).view(b, k, h // k * t, s)
    return (weights @ value).reshape(b, h, t, d)


def _causal(t: int, s: int, window: int | None, device: torch.device) -> Tensor:
    """Return a (1, 1, t, s) mask: each of the last t positions sees itself and earlier ones within the window."""
    mask = torch.ones(t, s, dtype=torch.bool, device=device).tril(s - t)
    return (mask if window is None else mask.triu(s - t - window + 1))[None, None]


def _long(query: Tensor, key: Tensor) -> bool:
    return query.shape[2] * key.shape[2] > MAX_PLAIN_TOKENS**2
