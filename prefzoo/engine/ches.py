"""CHES scores: how alike a model sees the answers of a pair, by their last hidden states."""

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

TOKENS = 4096  # of a pass


def with_ches(data: AuditedData, model: Any, report: Report | None = None) -> AuditedData:
    """Return a data set whose audit has the CHES scores of its pairs.

    Args:
        data: The data set.
        model: As `models.load` returns one.
        report: As for `ches_of`.

    Returns:
        The same data, with them.

    Raises:
        UserError: The data has single answers.
    """
    fault = f"{data.audit.spec}: --ches compares the two answers of a pair, and these are single ones; leave it out"
    pairs = only_pairs(data.tokens.examples, fault)
    scores = ches_of(model, pairs, choose_layout(model, pairs), report)
    return replace(data, audit=replace(data.audit, ches=scores))


@torch.no_grad()
def ches_of(model: Any, pairs: Sequence[TokenPair], layout: Layout, report: Report | None = None) -> Ches:
    """Return the CHES score of every pair under a model.

    Args:
        model: A causal language model; it stays on its device.
        pairs: The pairs, at least one.
        layout: How they are laid out in a pass.
        report: Called with the pairs done, their total number and an empty note.

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
    """Return (B, 2) scores, as they are and normalised, from (2B, D) sums and (2B,) numbers of tokens."""
    pairs = len(sums) // 2
    ours, theirs = sums[:pairs], sums[pairs:]
    own, other = counts[:pairs], counts[pairs:]
    product, square = (ours * theirs).sum(-1), ours.square().sum(-1)
    return torch.stack([product - square, product / (own * other) - square / own.square()], dim=-1)
