"""From token ids to a `PairBatch`, in either layout, and the order in which pairs are seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prefzoo.data.tokens import TokenPair
from prefzoo.types import CHOSEN, PADDING, PROMPT, REJECTED, PairBatch


def order(pairs: int, batch: int, steps: int, seed: int) -> list[list[int]]:
    """Which pairs each of `steps` optimiser steps sees: `batch` of them, every pair once before any comes again.

    The order depends on (pairs, batch, seed) alone, so all variants of a recipe see the same.
    """
    stream: list[int] = []
    gen = torch.Generator().manual_seed(seed)
    while len(stream) < batch * steps:
        stream += torch.randperm(pairs, generator=gen).tolist()
    return [stream[i * batch : (i + 1) * batch] for i in range(steps)]


def collate(pairs: Sequence[TokenPair], *, shared: bool, pad: int) -> PairBatch:
    """Lay pairs out for one forward pass.

    Args:
        shared: one row per pair (prompt, chosen, rejected behind each other) instead of one row per answer, all chosen
            first. Exact only for models whose attention honours the mask of `attention_mask`.
        pad: token id for the unused end of a row.

    Raises:
        ValueError: a pair without a prompt token: nothing predicts the first token of its answers.
    """
    if not all(pair.prompt for pair in pairs):
        raise ValueError("a pair without a prompt token cannot be scored; tokenise() makes none")
    rows: list[list[tuple[int, int, int]]] = []  # per token: id, position, segment
    source: list[tuple[int, int]] = []
    targets: list[int] = []
    owner: list[int] = []
    for segment, offset in ((CHOSEN, 0), (REJECTED, len(pairs))):
        for i, pair in enumerate(pairs):
            answer = pair.chosen if segment == CHOSEN else pair.rejected
            start = len(pair.prompt)
            if not shared or segment == CHOSEN:
                rows.append([(token, at, PROMPT) for at, token in enumerate(pair.prompt)])
            row = i if shared else i + offset
            before = len(rows[row])
            rows[row] += [(token, start + at, segment) for at, token in enumerate(answer)]
            # the first answer token is predicted by the last prompt token, each other by the token before it
            source += [(row, start - 1 if at == 0 else before + at - 1) for at in range(len(answer))]
            targets += answer
            owner += [i + offset] * len(answer)
    width = max(map(len, rows))
    padded = torch.tensor([row + [(pad, 0, PADDING)] * (width - len(row)) for row in rows])
    return PairBatch(
        tokens=padded[..., 0],
        positions=padded[..., 1],
        segments=padded[..., 2],
        source=torch.tensor([row * width + at for row, at in source]),
        targets=torch.tensor(targets),
        owner=torch.tensor(owner),
        pair_ids=torch.tensor([p.row for p in pairs]),
    )


def attention_mask(batch: PairBatch) -> Tensor:
    """(R, T) key mask for rows of one answer; (R, 1, T, T) mask for shared rows, where no answer sees the other.

    Every query sees at least itself, so no softmax is over nothing.
    """
    real = batch.segments != PADDING
    if not batch.shares_prompts:
        return real
    width = batch.tokens.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=real.device).tril()
    query, key = batch.segments[:, :, None], batch.segments[:, None, :]
    mask = causal & real[:, None, :] & ((key == PROMPT) | (key == query))
    return (mask | torch.eye(width, dtype=torch.bool, device=real.device))[:, None]
