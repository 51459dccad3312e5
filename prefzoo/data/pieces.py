"""Tokenise a text piece by piece, where that gives the same tokens: what rows have in common is tokenised once.

Fast tokenizers take special tokens out of a text before all else, and tokenise what lies between two of them by itself.
A text is therefore cut before each special token, and the latest pieces are remembered: both answers of a pair have
their prompt in common, and all rows the system message of the template.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

LATEST = 256  # pieces that are remembered


def ids_of(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Return the ids that a tokenizer gives for a text.

    Args:
        tokenizer: of transformers, fast or not.
        text: what to tokenise.
        special: whether the tokenizer adds its special tokens, such as a BOS.

    Returns:
        The same as for the text as a whole.
    """
    cuts = None if special else _cuts(tokenizer, len(tokenizer))
    if cuts is None:
        return [*_ids(tokenizer, text, special=special)]
    marks, before = cuts
    places = [match.start() for match in marks.finditer(text) if match.group() in before and match.start()]
    ids: list[int] = []
    for start, end in pairwise([0, *places, len(text)]):
        ids += _ids(tokenizer, text[start:end], special=False)
    return ids


def has_cuts(tokenizer: Any) -> bool:
    """Return whether a tokenizer's texts are cut into pieces."""
    return bool(tokenizer.chat_template) and _cuts(tokenizer, len(tokenizer)) is not None


@lru_cache(maxsize=LATEST)
def _ids(tokenizer: Any, text: str, *, special: bool) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


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
