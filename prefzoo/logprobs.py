"""Token log-probs from hidden states: fp32, for the scored positions only, in tiles, never the full logits tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from prefzoo.data.batches import attention_mask, collate
from prefzoo.data.tokens import TokenPair
from prefzoo.types import LogProbs, PairBatch

TILE = 512  # scored tokens whose logits exist at the same time


def score(model: Any, batch: PairBatch, *, tile: int = TILE) -> LogProbs:
    """(B,) log-probs of both answers of every pair under a causal language model, differentiable.

    Logits may be bf16 under autocast; the log-softmax and the sums are fp32 (fp64 for an fp64 model).
    """
    causal = _causal_lm(model)
    hidden = causal.get_decoder()(
        input_ids=batch.tokens, position_ids=batch.positions, attention_mask=attention_mask(batch), use_cache=False
    ).last_hidden_state
    states = hidden.flatten(0, 1)[batch.source]
    head, cap = causal.get_output_embeddings(), getattr(causal.config, "final_logit_softcapping", None)
    parts = []
    for rows, targets in zip(torch.split(states, tile), torch.split(batch.targets, tile), strict=True):
        if torch.is_grad_enabled() and len(states) > tile:  # else all tiles' logits would be kept for the backward
            parts.append(checkpoint(_token_logprobs, head, rows, targets, cap, use_reentrant=False))
        else:
            parts.append(_token_logprobs(head, rows, targets, cap))
    return _sum_up(torch.cat(parts), batch)


@torch.no_grad()
def can_share(model: Any, pairs: Sequence[TokenPair]) -> bool:
    """Whether one pass over a prompt may serve both answers: tried on the longest pair, against rows of their own.

    It is not exact where attention ignores the mask or measures distance by place in the row (some sliding windows),
    nor in recurrent layers; the longest pair is the one that reaches past a window.
    """
    longest, device = max(pairs, key=len), next(model.parameters()).device
    found = []
    for shared in (False, True):
        batch = collate([longest], shared=shared, pad=model.config.pad_token_id or 0).to(device)
        try:
            values = score(model, batch)
        except (RuntimeError, ValueError, TypeError):  # a model that takes no mask of this shape
            if not shared:
                raise
            return False
        found.append(torch.cat([values.chosen, values.rejected]))
    return torch.allclose(found[0], found[1], rtol=1e-3, atol=0.02)


def _causal_lm(model: Any) -> Any:
    """The transformers model inside a LoRA wrapper; its adapters stay in place."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


def _token_logprobs(head: Any, states: Tensor, targets: Tensor, cap: float | None) -> Tensor:
    logits = head(states)
    if cap:
        logits = cap * torch.tanh(_wide(logits) / cap)
    found: Tensor = _Picked.apply(logits, targets)  # type: ignore[no-untyped-call]
    return found


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


class _Picked(torch.autograd.Function):
    """log_softmax(logits)[targets] in fp32, keeping no more than the logits as they came (bf16 under autocast).

    On CPUs in blocks of rows that stay in the cache: a fifth of the time of gather - logsumexp and its backward.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        ctx.block = 16 if logits.device.type == "cpu" else len(logits)
        lse = torch.cat([_wide(rows).logsumexp(-1) for rows in torch.split(logits, ctx.block)])
        ctx.save_for_backward(logits, targets, lse)
        return _wide(logits.gather(-1, targets[:, None]).squeeze(-1)) - lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, targets, lse = ctx.saved_tensors
        out = torch.empty_like(logits)
        for start in range(0, len(logits), ctx.block):
            part = slice(start, start + ctx.block)
            down = -grad[part, None]
            rows = _wide(logits[part]).sub(lse[part, None]).exp_().mul_(down)
            out[part] = rows.scatter_add_(-1, targets[part, None], -down)
        return out, None


def _sum_up(tokens: Tensor, batch: PairBatch) -> LogProbs:
    pairs = len(batch)
    sums = tokens.new_zeros(2 * pairs).index_add(0, batch.owner, tokens)
    lengths = torch.bincount(batch.owner, minlength=2 * pairs)
    return LogProbs(sums[:pairs], sums[pairs:], lengths[:pairs], lengths[pairs:])
