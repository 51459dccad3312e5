"""Score one batch under several policies in one pass: its rows are repeated for each, and all use one head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from prefzoo.engine.lm_head import LMHead, Tile, token_logprobs
from prefzoo.engine.logprobs import answer_sums, predicting_states, sum_up
from prefzoo.engine.stacked_adapters import PART_BY_PART
from prefzoo.engine.token_kl import token_kl
from prefzoo.types import LogProbs, PairBatch, TokenKL, VocabLogProbs


def score_policies(
    model: Any, batch: PairBatch, kinds: Sequence[type[LogProbs]], references: Sequence[Any], *, tile: Tile = None
) -> list[tuple[LogProbs, TokenKL | None]]:
    """Return the log-probs of one batch under N policies, computed in one pass.

    Args:
        model: A model that sends the n-th copy of its rows through the n-th policy's adapter.
        batch: B pairs, on the model's device.
        kinds: Which log-probs each policy's loss needs.
        references: For each policy the frozen reference of its KL, or None to compute no KL. All references must be the
            same model.
        tile: Numbers of tokens and vocabulary entries whose logits are in memory at once; None suits the device.

    Returns:
        For each policy its log-probs and the sums of its KL; None instead of the KL without a reference.
    """
    states, head = predicting_states(model, _copies(batch, len(kinds)))
    parts = states.view(len(kinds), -1, states.shape[-1])
    reference = next((r for r in references if r is not None), None)
    if reference is not None:
        with torch.no_grad():
            reference_states, reference_head = predicting_states(reference, batch)
    results: list[tuple[LogProbs, TokenKL | None]] = []
    of_tokens = _of_tokens(parts, head, batch.targets, kinds, tile)
    for own, (tokens, *stats), kind, asks in zip(parts, of_tokens, kinds, references, strict=True):
        kl = None if asks is None else token_kl(own, head, reference_states, reference_head, tile=tile)
        scored = sum_up(tokens, stats if issubclass(kind, VocabLogProbs) else (), batch, kind)
        results.append((scored, None if kl is None else TokenKL(*answer_sums(kl, batch))))
    return results


def _copies(batch: PairBatch, count: int) -> PairBatch:
    """Return the batch with its positions repeated `count` times; owners and pair ids are not repeated."""
    packed, size = bool(batch.blocks), batch.tokens.numel()
    wide = {
        name: getattr(batch, name).repeat(*((1, count) if packed else (count, 1)))
        for name in ("tokens", "positions", "segments")
    }
    starts = torch.arange(0, count * size, size, device=batch.source.device)
    return replace(batch, **wide, source=(batch.source + starts[:, None]).flatten(), blocks=batch.blocks * count)


def _of_tokens(
    parts: Tensor, head: LMHead, targets: Tensor, kinds: Sequence[type[LogProbs]], tile: Tile
) -> list[tuple[Tensor, ...]]:
    """Return the results of `token_logprobs` for each policy, from (N, T, D) states of T tokens under N policies.

    On a CPU, whose rounding depends on the number of rows, each policy is computed separately; elsewhere all of them
    are computed at once, in fewer launches.
    """
    wanted = [issubclass(kind, VocabLogProbs) for kind in kinds]
    if parts.device.type in PART_BY_PART:
        return [
            token_logprobs(own, head, targets, statistics=asks, tile=tile)
            for own, asks in zip(parts, wanted, strict=True)
        ]
    count = len(parts)
    values = token_logprobs(parts.flatten(0, 1), head, targets.repeat(count), statistics=any(wanted), tile=tile)
    return list(zip(*(value.view(count, -1) for value in values), strict=True))
