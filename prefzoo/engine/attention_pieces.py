"""How attention on CPUs is cut into pieces, and what it saves for the backward pass. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefzoo.engine.block_index import Blocks

QUERIES_PER_PIECE = 192  # queries at a time: fewer cost overhead, more cost products with keys that they do not see
MAX_SAVED_KEYS = 512  # up to so many keys, attention weights are saved for the backward pass; otherwise recomputed


def pieces_of(blocks: Blocks, window: int | None = None) -> list[tuple[slice, tuple[slice, ...]]]:
    """Return slices of queries, each with the slices of keys that they see; the last key is the last query's."""
    pieces: list[tuple[slice, tuple[slice, ...]]] = []
    start = 0
    for prompt, first, second in blocks:
        middle, end = start + prompt + first, start + prompt + first + second
        shared = slice(start, start + prompt)
        for at in range(start, middle, QUERIES_PER_PIECE):
            last = min(at + QUERIES_PER_PIECE, middle)
            pieces.append((slice(at, last), _near((slice(start, last),), last - at, window)))
        for at in range(middle, end, QUERIES_PER_PIECE):
            last = min(at + QUERIES_PER_PIECE, end)
            pieces.append((slice(at, last), _near((shared, slice(middle, last)), last - at, window)))
        start = end
    return pieces


def _near(seen: tuple[slice, ...], queries: int, window: int | None) -> tuple[slice, ...]:
    """Leave out the keys before the window of the first of the queries, which are the last of the keys."""
    if window is None:
        return seen
    left = queries + window - 1  # keys that are not left out
    near: list[slice] = []
    for part in reversed(seen):
        if left:
            begin = max(part.start, part.stop - left)
            near.insert(0, slice(begin, part.stop))
            left -= part.stop - begin
    return tuple(near)


def saved_attention_weights(blocks: Blocks) -> int:
    """Return how many attention weights one head of one layer saves for the backward pass on CPUs."""
    sizes = [(at.stop - at.start, sum(part.stop - part.start for part in seen)) for at, seen in pieces_of(blocks)]
    return sum(queries * keys for queries, keys in sizes if keys <= MAX_SAVED_KEYS)
