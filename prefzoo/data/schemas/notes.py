"""Count the changes that schemas make to rows. Every command that reads data shows these counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

TIED = "no answer is preferred (a tie)"
_COUNTS: ContextVar[Counter[str] | None] = ContextVar("counts", default=None)


class SkipRow(Exception):  # noqa: N818 - not an error: nothing is wrong with the row
    """Raised for a row without a preference, such as a tie. The row is left out and counted by the exception's text."""


class TiedRow(SkipRow):
    """Raised for a tie, which is left out of training, but becomes a pair with equal scores for a judge.

    Attributes:
        build: function that returns the pair, with its answers in any order.
    """

    def __init__(self, build: Callable[[], Any], reason: str = TIED) -> None:
        super().__init__(reason)
        self.build = build


def note(change: str) -> None:
    """Count a change to the current row. The text continues `5 rows`, as in `5 rows with an empty prompt`."""
    counts = _COUNTS.get()
    if counts is not None:
        counts[change] += 1


@contextmanager
def counted(counts: Counter[str]) -> Iterator[None]:
    """Collect the changes that are noted inside the `with` block.

    Args:
        counts: number of rows by change, which `note` increases.
    """
    token = _COUNTS.set(counts)
    try:
        yield
    finally:
        _COUNTS.reset(token)
