"""Token log-probs from hidden states: fp32, for the scored positions only, in tiles, never the full logits tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from prefzoo.data.batches import attention_mask, collate
from prefzoo.data.tokens import TokenPair
from prefzoo.types import LogProbs, PairBatch, TokenKL, TokenLogProbs, VocabLogProbs

Projection = Callable[[Tensor], Tensor]
TILE = 512  # scored tokens whose logits exist at the same time


def score(model: Any, batch: PairBatch, kind: type[LogProbs] = LogProbs, *, tile: int = TILE) -> LogProbs:
    """Log-probs of both answers of every pair under a causal language model, differentiable; a `kind`.

    Logits may be bf16 under autocast; the log-softmax and the sums are fp32 (fp64 for an fp64 model). The statistics
    of `VocabLogProbs` carry no gradient.
    """
    return _score(model, batch, kind, None, tile)[0]


def score_with_kl(
    model: Any, reference: Any, batch: PairBatch, kind: type[LogProbs] = LogProbs, *, tile: int = TILE
) -> tuple[LogProbs, TokenKL]:
    """`score`, and the KL of every answer's tokens from `reference`, a frozen model, to `model`."""
    found, kl = _score(model, batch, kind, reference, tile)
    assert kl is not None
    return found, kl


def _score(
    model: Any, batch: PairBatch, kind: type[LogProbs], reference: Any, tile: int
) -> tuple[LogProbs, TokenKL | None]:
    states, project = _states(model, batch)
    with torch.no_grad():
        theirs, project_theirs = (states, project) if reference is None else _states(reference, batch)
    tokens, kls, stats = [], [], []
    for start in range(0, len(states), tile):
        part = slice(start, start + tile)
        target = batch.targets[part]
        if torch.is_grad_enabled() and len(states) > tile:  # else all tiles' logits would be kept for the backward
            tokens.append(checkpoint(_picked, project, states[part], target, use_reentrant=False))
        else:
            tokens.append(_picked(project, states[part], target))
        if reference is not None:
            kls.append(checkpoint(_kl, project, states[part], project_theirs, theirs[part], use_reentrant=False))
        if issubclass(kind, VocabLogProbs):
            stats.append(_statistics(project, states[part]))
    found = _sum_up(torch.cat(tokens), [torch.cat(s) for s in zip(*stats, strict=True)], batch, kind)
    return found, TokenKL(*_sums(torch.cat(kls), batch)) if kls else None


def _states(model: Any, batch: PairBatch) -> tuple[Tensor, Projection]:
    """Hidden states (N, D) that predict the scored tokens, and what makes logits of them."""
    causal = _causal_lm(model)
    hidden = causal.get_decoder()(
        input_ids=batch.tokens, position_ids=batch.positions, attention_mask=attention_mask(batch), use_cache=False
    ).last_hidden_state
    head, cap = causal.get_output_embeddings(), getattr(causal.config, "final_logit_softcapping", None)

    def project(states: Tensor) -> Tensor:
        logits: Tensor = head(states)
        return cap * torch.tanh(_wide(logits) / cap) if cap else logits

    return hidden.flatten(0, 1)[batch.source], project


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


def _picked(project: Projection, states: Tensor, targets: Tensor) -> Tensor:
    found: Tensor = _Picked.apply(project(states), targets)  # type: ignore[no-untyped-call]
    return found


def _kl(project: Projection, states: Tensor, project_theirs: Projection, theirs: Tensor) -> Tensor:
    """(n,) KL from the reference's distribution to the policy's, over the whole vocabulary."""
    with torch.no_grad():
        log_p = _wide(project_theirs(theirs)).log_softmax(-1)
    return (log_p.exp() * (log_p - _wide(project(states)).log_softmax(-1))).sum(-1)


@torch.no_grad()
def _statistics(project: Projection, states: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) entropy and (n,) log of the sum of squared probabilities."""
    log_p = _wide(project(states)).log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1), (2 * log_p).logsumexp(-1)


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


def _sum_up(tokens: Tensor, stats: list[Tensor], batch: PairBatch, kind: type[LogProbs]) -> LogProbs:
    pairs = len(batch)
    lengths = torch.bincount(batch.owner, minlength=2 * pairs)
    values = [*_sums(tokens, batch), lengths[:pairs], lengths[pairs:]]
    if issubclass(kind, TokenLogProbs):
        starts = lengths.cumsum(0) - lengths
        place = torch.arange(len(tokens), device=tokens.device) - starts[batch.owner]
        width = int(lengths.max())
        for of_tokens in (tokens, *stats):
            dense = of_tokens.new_zeros(2 * pairs, width).index_put((batch.owner, place), of_tokens)
            values += [dense[:pairs], dense[pairs:]]
    return kind(*values)


def _sums(tokens: Tensor, batch: PairBatch) -> tuple[Tensor, Tensor]:
    sums = tokens.new_zeros(2 * len(batch)).index_add(0, batch.owner, tokens)
    return sums[: len(batch)], sums[len(batch) :]
