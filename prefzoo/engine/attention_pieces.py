"""Split attention on CPUs into pieces, and count the weights that it saves for the backward pass. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefzoo.engine.block_index import Blocks

QUERIES_PER_PIECE = 192  # fewer queries add overhead; more are multiplied by keys that they do not see
MAX_SAVED_KEYS = 512  # with more keys, attention weights are recomputed in the backward pass, not saved


def pieces_of(blocks: Blocks, window: int | None = None) -> list[tuple[slice, tuple[slice, ...]]]:
    """Split the queries of a packed batch into slices, each with the slices of the keys that it sees.

    In each pair, the last key is at the position of the last query.

    Args:
        blocks: For each block the tokens of its prompt, first and second answer (0 without a second).
        window: Width of a sliding window in tokens; None for no window.
    """
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
    """Drop the keys before the first query's window; the queries are at the last `queries` positions of the keys."""
    if window is None:
        return seen
    left = queries + window - 1  # number of keys to keep
    near: list[slice] = []
    for part in reversed(seen):
        if left:
            begin = max(part.start, part.stop - left)
            near.insert(0, slice(begin, part.stop))
            left -= part.stop - begin
    return tuple(near)


def saved_attention_weights(blocks: Blocks) -> int:
    """Return how many attention weights a head of a layer without window or cap saves for the backward pass on CPUs."""
    sizes = [(at.stop - at.start, sum(part.stop - part.start for part in seen)) for at, seen in pieces_of(blocks)]
    return sum(queries * keys for queries, keys in sizes if keys <= MAX_SAVED_KEYS)
