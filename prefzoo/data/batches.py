"""From token ids to a `PairBatch`, in any layout, and the order in which pairs are seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from prefzoo.data.tokens import TokenPair
from prefzoo.types import CHOSEN, PADDING, PROMPT, REJECTED, PairBatch

Layout = Literal["shared", "packed", "rows"]


def order(pairs: int, batch: int, steps: int, seed: int) -> list[list[int]]:
    """Which pairs each of `steps` optimiser steps sees: `batch` of them, every pair once before any comes again.

    The order depends on (pairs, batch, seed) alone, so all variants of a recipe see the same.
    """
    stream: list[int] = []
    gen = torch.Generator().manual_seed(seed)
    while len(stream) < batch * steps:
        stream += torch.randperm(pairs, generator=gen).tolist()
    return [stream[i * batch : (i + 1) * batch] for i in range(steps)]


def collate(pairs: Sequence[TokenPair], layout: Layout, *, pad: int) -> PairBatch:
    """Lay pairs out for one forward pass.

    Args:
        layout: `shared`: packed, one block per pair: prompt, chosen, rejected. `packed`: a block per answer, all chosen
            first. `rows`: a padded row per answer, for architectures whose attention knows no blocks.
        pad: token id for the unused end of a row.

    Raises:
        ValueError: a pair without a prompt token: nothing predicts the first token of its answers.
    """
    if not all(pair.prompt for pair in pairs):
        raise ValueError("a pair without a prompt token cannot be scored; tokenise() makes none")
    count = len(pairs)
    rows: list[_Row] = [_Row(pair.prompt) for pair in pairs]
    places: list[tuple[int, _Row, int]] = []  # of each answer: its number, its row, and where in that it starts
    for i, pair in enumerate(pairs):
        places.append((i, rows[i], rows[i].append(pair.chosen, CHOSEN)))
    for i, pair in enumerate(pairs):
        if not pair.rejected:
            continue
        row = rows[i] if layout == "shared" else _Row(pair.prompt)
        rows += [] if layout == "shared" else [row]
        places.append((count + i, row, row.append(pair.rejected, REJECTED)))
    width = max(len(row.tokens) for row in rows) if layout == "rows" else 0
    starts, at = {}, 0
    for row in rows:
        row.pad(width, pad)
        starts[id(row)], at = at, at + len(row.tokens)
    source: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    for number, row, begin in places:
        answer = pairs[number % count].chosen if number < count else pairs[number % count].rejected
        first = starts[id(row)]
        # the first answer token is predicted by the last prompt token, each other by the token before it
        source += [first + row.prompt - 1, *range(first + begin, first + begin + len(answer) - 1)]
        targets += answer
        owner += [number] * len(answer)
    shape = (-1, width) if layout == "rows" else (1, -1)
    tokens, positions, segments = (
        torch.tensor([x for row in rows for x in getattr(row, name)]).view(shape)
        for name in ("tokens", "positions", "segments")
    )
    return PairBatch(
        tokens, positions, segments, torch.tensor(source), torch.tensor(targets), torch.tensor(owner),
        torch.tensor([p.row for p in pairs]), () if layout == "rows" else tuple(row.block() for row in rows),
    )  # fmt: skip


class _Row:
    """A prompt and the answers behind it."""

    def __init__(self, prompt: list[int]) -> None:
        self.prompt = len(prompt)
        self.tokens, self.positions = list(prompt), list(range(len(prompt)))
        self.segments = [PROMPT] * len(prompt)
        self.answers: list[int] = []

    def append(self, answer: list[int], segment: int) -> int:
        """Adds an answer that continues the prompt; returns where it starts."""
        begin = len(self.tokens)
        self.tokens += answer
        self.positions += range(self.prompt, self.prompt + len(answer))
        self.segments += [segment] * len(answer)
        self.answers.append(len(answer))
        return begin

    def pad(self, width: int, token: int) -> None:
        more = width - len(self.tokens)
        self.tokens += [token] * more
        self.positions += [0] * more
        self.segments += [PADDING] * more

    def block(self) -> tuple[int, int, int]:
        first, second = (*self.answers, 0)[:2]
        return self.prompt, first, second


def split(pairs: Sequence[TokenPair], rows: Sequence[int], budget: int, most: int | None) -> list[list[int]]:
    """`rows` in order, dealt to passes of at most `budget` tokens and `most` pairs; a longer pair goes alone."""
    parts: list[list[int]] = []
    used = 0
    for i in rows:
        size = len(pairs[i].prompt) + len(pairs[i].chosen) + len(pairs[i].rejected)
        if not parts or used + size > budget or len(parts[-1]) == most:
            parts.append([])
            used = 0
        parts[-1].append(i)
        used += size
    return parts
