"""Convert positions in a text into positions in its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefzoo.data.pieces import counts_before, ids_of

WINDOW = 4  # tokens before a boundary that are decoded, too, as a token's text may depend on its neighbours


@dataclass(frozen=True)
class Boundary:
    """A boundary between two characters of a text, as numbers of tokens.

    Attributes:
        before: number of tokens that end at or before the boundary.
        through: number of tokens that begin before the boundary; `before + 1` if a token lies across it.
        merged: whether the text before the boundary has other tokens when it is tokenised alone.
    """

    before: int
    through: int
    merged: bool


def encode(tokenizer: Any, text: str) -> list[int]:
    """Tokenise a text, with one BOS at most and without an EOS that the tokenizer adds by itself."""
    plain = not tokenizer.chat_template
    ids = ids_of(tokenizer, text, special=plain)
    eos = tokenizer.eos_token_id if plain else None
    if eos is not None and ids[-1:] == [eos] and not text.endswith(tokenizer.eos_token):
        ids = ids[:-1]
    while len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        ids = ids[1:]
    return ids


def locate(tokenizer: Any, text: str, ids: Sequence[int], characters: Sequence[int]) -> list[Boundary]:
    """Find the tokens at the given boundaries of a text.

    Every boundary is exact if tokenising the text before each one gives a prefix of `ids`, or if tokenising the pieces
    between them gives `ids`. Otherwise the tokenizer merges characters across a boundary, or treats the start of a text
    specially. Then each boundary is found by comparing the decoded tokens with the text before it.

    Args:
        tokenizer: a transformers tokenizer, fast or slow.
        text: the whole text.
        ids: its tokens, from `encode`.
        characters: number of characters before each boundary, in ascending order.

    Returns:
        One `Boundary` for each item of `characters`.
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
    """Return the boundary where the text of `part` ends; its last tokens may differ from those of `ids`."""
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
