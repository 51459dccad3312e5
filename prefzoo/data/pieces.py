"""Tokenise texts in pieces and cache the pieces, so that text that rows have in common is tokenised once.

Fast tokenizers first split a text at its special tokens, and then tokenise the text between two of them independently.
Cutting a text before each special token thus gives the same tokens. Pieces recur often: both answers of a pair have the
same prompt, and all rows have the same system message if the chat template writes one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

LATEST = 256  # pieces that are cached
TEXTS = 8  # whole texts that are cached, as those of a pair are tokenised several times


def ids_of(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Tokenise a text, in cached pieces if possible.

    Args:
        tokenizer: a transformers tokenizer, fast or slow.
        text: the text.
        special: whether the tokenizer adds its special tokens, such as a BOS.

    Returns:
        The token ids, equal to those of tokenising the text as a whole.
    """
    size = len(tokenizer)
    if special or _cuts(tokenizer, size) is None:
        return [*_whole(tokenizer, text, special=special)]
    return [*_in_pieces(tokenizer, size, text).ids]


def counts_before(tokenizer: Any, text: str, ends: Sequence[int]) -> list[int] | None:
    """Count the tokens of prefixes of a text, if tokenising each prefix gives a prefix of the text's tokens.

    Args:
        tokenizer: a transformers tokenizer.
        text: the whole text.
        ends: number of characters of each prefix.

    Returns:
        The number of tokens of each prefix, from `ids_of` without special tokens; None if a prefix has other tokens
        than the text begins with, or if the text cannot be tokenised in pieces.
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
            return None  # the prefix ends inside a special token
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
        ids: the token ids of the whole text.
        starts: number of characters before each piece.
        inner: number of characters up to the end of the special token that each piece begins with; the first piece may
            begin without one.
        counts: number of tokens before each piece.
    """

    ids: list[int]
    starts: list[int]
    inner: list[int]
    counts: list[int]


@lru_cache(maxsize=TEXTS)
def _in_pieces(tokenizer: Any, size: int, text: str) -> _Pieces:
    """Cut a text into pieces and tokenise them. The result is cached, so callers must not modify it."""
    cuts = _cuts(tokenizer, size)
    assert cuts is not None  # the caller has checked
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
    """Tokenise a text as a whole. The result is cached, so callers must not modify it."""
    return _tokenised(tokenizer, text, special=special)


@lru_cache(maxsize=LATEST)
def _piece(tokenizer: Any, text: str) -> list[int]:
    """Tokenise one piece. The result is cached, so callers must not modify it."""
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
    """Return whether a tokenizer only calls its backend. Calling that directly takes half the time."""
    from transformers import PreTrainedTokenizerFast

    names = ("__call__", "_encode_plus")
    return all(getattr(type(tokenizer), name, None) is getattr(PreTrainedTokenizerFast, name, None) for name in names)


@lru_cache(maxsize=16)
def _cuts(tokenizer: Any, size: int) -> tuple[re.Pattern[str], frozenset[str]] | None:
    """Return a pattern that matches any added token, and the added tokens before which a text can be cut.

    Args:
        tokenizer: a transformers tokenizer.
        size: size of its vocabulary, part of the cache key because adding tokens changes the result.

    Returns:
        The pattern and the tokens; None if texts must be tokenised as a whole.
    """
    if not (size and tokenizer.is_fast) or getattr(tokenizer, "split_special_tokens", False):
        return None
    added = [token for token in tokenizer.added_tokens_decoder.values() if token.content]
    if not added or any(token.single_word for token in added):  # such a token depends on its neighbours
        return None
    before = {t.content for t in added if t.special and not (t.normalized or t.lstrip)}
    longest_first = sorted((token.content for token in added), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))), frozenset(before)
