"""Turn boundaries between characters into boundaries between tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefzoo.data.pieces import counts_before, ids_of

WINDOW = 4  # tokens before a merged one that are decoded with it: some decoders look at neighbours


@dataclass(frozen=True)
class Boundary:
    """A boundary between characters, among tokens.

    Attributes:
        before: how many tokens end at or before it.
        through: how many tokens begin before it; one more than `before` where a token lies across the boundary.
        merged: whether the text before it alone would have been tokenised otherwise.
    """

    before: int
    through: int
    merged: bool


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return ids with exactly one BOS where the tokenizer or its template sets one, and no EOS that it adds itself."""
    plain = not tokenizer.chat_template
    ids = ids_of(tokenizer, text, special=plain)
    eos = tokenizer.eos_token_id if plain else None
    if eos is not None and ids[-1:] == [eos] and not text.endswith(tokenizer.eos_token):
        ids = ids[:-1]
    while len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        ids = ids[1:]
    return ids


def locate(tokenizer: Any, text: str, ids: Sequence[int], characters: Sequence[int]) -> list[Boundary]:
    """Find boundaries of a text among its tokens.

    Where the text before every boundary has the tokens with which the whole begins, or the pieces between boundaries
    together have the tokens of the whole, every boundary is exact. Otherwise a tokenizer merges across some, or treats
    the beginning of a text specially, and the text before each boundary is tokenised.

    Args:
        tokenizer: of transformers, fast or not.
        text: the whole.
        ids: its tokens, as `encode` gives them.
        characters: number of characters before each boundary, in ascending order.

    Returns:
        A boundary for each.
    """
    if tokenizer.chat_template and (counts := counts_before(tokenizer, text, characters)):
        less = len(ids_of(tokenizer, text, special=False)) - len(ids)  # BOS that `encode` leaves out
        if min(counts) > less or not less:
            return [Boundary(count - less, count - less, False) for count in counts]
    if len(characters) > 1:
        counts, joined, start = [], [], 0
        for end in [*characters, len(text)]:
            piece = text[start:end]
            joined += _piece(tokenizer, piece) if start else encode(tokenizer, piece)
            counts.append(len(joined))
            start = end
        if joined == list(ids):
            return [Boundary(count, count, False) for count in counts[:-1]]
    return [_around(tokenizer, ids, encode(tokenizer, text[:end])) for end in characters]


def _piece(tokenizer: Any, text: str) -> list[int]:
    return ids_of(tokenizer, text, special=False) if text else []


def _around(tokenizer: Any, ids: Sequence[int], part: Sequence[int]) -> Boundary:
    """Return the boundary after the text of `part`, with which `ids` begin but for tokens across the boundary."""
    same = next((i for i, (a, b) in enumerate(zip(part, ids, strict=False)) if a != b), min(len(part), len(ids)))
    if same == len(part):
        return Boundary(same, same, False)
    base = max(0, same - WINDOW)

    def characters(tokens: Sequence[int]) -> int:
        return len(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    target, before = characters(part[base:]), same
    while before < len(ids) and characters(ids[base : before + 1]) <= target:
        before += 1
    exact = characters(ids[base:before]) == target
    return Boundary(before, before if exact else min(before + 1, len(ids)), True)
