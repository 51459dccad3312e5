"""Compute CHES scores: how similar the two answers of a pair are to a model, by their last hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from prefzoo.data.audit import AuditedData
from prefzoo.data.audits.ches import Ches
from prefzoo.data.batches import Layout, collate, split
from prefzoo.data.tokens import TokenPair, only_pairs
from prefzoo.engine.logprobs import choose_layout, sum_states
from prefzoo.runtime.progress import Report

TOKENS = 4096  # per forward pass


def with_ches(data: AuditedData, model: Any, report: Report | None = None) -> AuditedData:
    """Add the CHES scores of a data set's pairs to its audit.

    Args:
        data: The data set.
        model: A model that `models.load` returned.
        report: As for `ches_of`.

    Returns:
        The same data, with the scores in its audit.

    Raises:
        UserError: The data has single answers instead of pairs.
    """
    fault = (
        f"{data.audit.spec}: --ches compares the two answers of a pair, and this data has single answers; leave it out"
    )
    pairs = only_pairs(data.tokens.examples, fault)
    scores = ches_of(model, pairs, choose_layout(model, pairs), report)
    return replace(data, audit=replace(data.audit, ches=scores))


@torch.no_grad()
def ches_of(model: Any, pairs: Sequence[TokenPair], layout: Layout, report: Report | None = None) -> Ches:
    """Return the CHES score of every pair under a model.

    Args:
        model: A causal language model; it stays on its device.
        pairs: The pairs, at least one.
        layout: How pairs are laid out in a forward pass.
        report: Called with the number of pairs done, the number of all pairs and an empty note.

    Returns:
        The scores, in the order of the pairs.
    """
    device, parts, done = next(model.parameters()).device, list[Tensor](), 0
    for part in split(pairs, range(len(pairs)), TOKENS, None):
        batch = collate([pairs[i] for i in part], layout, pad=0).to(device)
        parts.append(_scores(*sum_states(model, batch)).cpu())
        done += len(part)
        if report:
            report(done, len(pairs), "")
    scores, normalised = torch.cat(parts).T.tolist()
    return Ches(tuple(pair.row + 1 for pair in pairs), tuple(scores), tuple(normalised))


def _scores(sums: Tensor, counts: Tensor) -> Tensor:
    """Return (B, 2) scores, plain and length-normalised, from (2B, D) sums of states and (2B,) numbers of tokens."""
    pairs = len(sums) // 2
    chosen, rejected = sums[:pairs], sums[pairs:]
    chosen_len, rejected_len = counts[:pairs], counts[pairs:]
    product, square = (chosen * rejected).sum(-1), chosen.square().sum(-1)
    normalised = product / (chosen_len * rejected_len) - square / chosen_len.square()
    return torch.stack([product - square, normalised], dim=-1)
