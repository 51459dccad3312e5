"""What a schema does to a row beyond taking it as it is: counted, and shown by every command that reads the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

TIED = "no answer is preferred (a tie)"
_COUNTS: ContextVar[Counter[str] | None] = ContextVar("counts", default=None)


class SkipRow(Exception):  # noqa: N818 - not an error: nothing is wrong with the row
    """A row without a preference, such as a tie. It is left out and counted under the exception's text."""


class TiedRow(SkipRow):
    """A row of which neither answer is better: left out of training, and a pair of equal scores for a judge.

    Attributes:
        build: returns the pair, in either order of its answers.
    """

    def __init__(self, build: Callable[[], Any], reason: str = TIED) -> None:
        super().__init__(reason)
        self.build = build


def note(change: str) -> None:
    """Count a change to the row that is read now, like `prompt left out of the answers: they repeat it`."""
    counts = _COUNTS.get()
    if counts is not None:
        counts[change] += 1


@contextmanager
def counted(counts: Counter[str]) -> Iterator[None]:
    """Count the notes of the schemas that run inside the `with` block.

    Args:
        counts: grows by one for each note.
    """
    token = _COUNTS.set(counts)
    try:
        yield
    finally:
        _COUNTS.reset(token)
