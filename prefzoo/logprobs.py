"""Token log-probs from hidden states: fp32, for the scored positions only, in tiles, never the full logits tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from prefzoo.data.batches import attention_mask
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


def _causal_lm(model: Any) -> Any:
    """The transformers model inside a LoRA wrapper; its adapters stay in place."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


def _token_logprobs(head: Any, states: Tensor, targets: Tensor, cap: float | None) -> Tensor:
    logits = head(states)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if cap:
        logits = cap * torch.tanh(logits / cap)
    chosen: Tensor = logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)
    return chosen


def _sum_up(tokens: Tensor, batch: PairBatch) -> LogProbs:
    pairs = len(batch)
    sums = tokens.new_zeros(2 * pairs).index_add(0, batch.owner, tokens)
    lengths = torch.bincount(batch.owner, minlength=2 * pairs)
    return LogProbs(sums[:pairs], sums[pairs:], lengths[:pairs], lengths[pairs:])
