"""Tokenise a text piece by piece, where that gives the same tokens: common parts of rows are tokenised once.

Fast tokenizers take special tokens out of a text before all else, and tokenise what lies between two of them by itself.
A text is therefore cut before each special token, and the latest pieces are remembered: both answers of a pair have
their prompt in common, and all rows the system message of the template.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

LATEST = 256  # pieces that are remembered
TEXTS = 8  # texts that are remembered: a pair's are asked several times


def ids_of(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Return the ids that a tokenizer gives for a text.

    Args:
        tokenizer: of transformers, fast or not.
        text: what to tokenise.
        special: whether the tokenizer adds its special tokens, such as a BOS.

    Returns:
        The same as for the text as a whole.
    """
    size = len(tokenizer)
    if special or _cuts(tokenizer, size) is None:
        return [*_whole(tokenizer, text, special=special)]
    return [*_in_pieces(tokenizer, size, text).ids]


def counts_before(tokenizer: Any, text: str, ends: Sequence[int]) -> list[int] | None:
    """Return how many tokens of a text its beginnings have, if each has just the tokens with which the whole begins.

    Args:
        tokenizer: of transformers.
        text: the whole.
        ends: number of characters of each beginning.

    Returns:
        Numbers of the tokens that `ids_of` gives without special tokens; None where a beginning has other tokens, or
        the text is not cut into pieces.
    """
    size = len(tokenizer)
    if _cuts(tokenizer, size) is None:
        return None
    whole = _in_pieces(tokenizer, size, text)
    counts: list[int] = []
    for end in ends:
        number = bisect_right(whole.starts, end) - 1
        start, count = whole.starts[number], whole.counts[number]
        if start < end < whole.inner[number]:
            return None  # it ends within the special token before which the text is cut
        if start < end:
            part = _in_pieces(tokenizer, size, text[start:end]).ids
            if whole.ids[count : count + len(part)] != part:
                return None
            count += len(part)
        counts.append(count)
    return counts


class _Pieces(NamedTuple):
    """A text in pieces.

    Attributes:
        ids: of the whole.
        starts: number of characters before each piece.
        inner: number of characters before the rest of each piece, after the special token with which it begins.
        counts: number of tokens before each piece.
    """

    ids: list[int]
    starts: list[int]
    inner: list[int]
    counts: list[int]


@lru_cache(maxsize=TEXTS)
def _in_pieces(tokenizer: Any, size: int, text: str) -> _Pieces:
    """Return a text in pieces; callers leave it as it is."""
    cuts = _cuts(tokenizer, size)
    assert cuts is not None  # the caller has asked
    marks, before = cuts
    spans = [match.span() for match in marks.finditer(text) if match.group() in before]
    starts, inner = [0], [0]
    for start, end in spans:
        if start:
            starts.append(start)
            inner.append(end)
        else:
            inner[0] = end
    ids: list[int] = []
    counts: list[int] = []
    for start, end in pairwise([*starts, len(text)]):
        counts.append(len(ids))
        ids += _piece(tokenizer, text[start:end])
    return _Pieces(ids, starts, inner, counts)


@lru_cache(maxsize=TEXTS)
def _whole(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Return the ids of a text that is not cut; callers leave them as they are."""
    return _tokenised(tokenizer, text, special=special)


@lru_cache(maxsize=LATEST)
def _piece(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of a piece, which callers leave as they are."""
    return _tokenised(tokenizer, text, special=False)


def _tokenised(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    ids: list[int]
    if _calls_backend(tokenizer) and not getattr(tokenizer, "split_special_tokens", False):
        backend = tokenizer.backend_tokenizer
        if not (backend.padding or backend.truncation or backend.encode_special_tokens):
            ids = backend.encode_batch_fast([text], add_special_tokens=special)[0].ids
            return ids
    ids = tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    return ids


@lru_cache(maxsize=16)
def _calls_backend(tokenizer: Any) -> bool:
    """Return whether a tokenizer gives what its backend does: then the backend is asked, in half the time."""
    from transformers import PreTrainedTokenizerFast

    names = ("__call__", "_encode_plus")
    return all(getattr(type(tokenizer), name, None) is getattr(PreTrainedTokenizerFast, name, None) for name in names)


@lru_cache(maxsize=16)
def _cuts(tokenizer: Any, size: int) -> tuple[re.Pattern[str], frozenset[str]] | None:
    """Return a pattern for every token that was added to a vocabulary, and those before which a text is cut.

    Args:
        tokenizer: of transformers.
        size: of its vocabulary, which changes as tokens are added.

    Returns:
        None where a text must be tokenised as a whole.
    """
    if not (size and tokenizer.is_fast) or getattr(tokenizer, "split_special_tokens", False):
        return None
    added = [token for token in tokenizer.added_tokens_decoder.values() if token.content]
    if not added or any(token.single_word for token in added):  # whether it is a token depends on its neighbours
        return None
    before = {t.content for t in added if t.special and not (t.normalized or t.lstrip)}
    longest_first = sorted((token.content for token in added), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))), frozenset(before)
