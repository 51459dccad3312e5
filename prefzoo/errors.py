"""Errors that the user can fix: they are printed as they are, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """One or more faults, each a single line with place, value and cure. The command line prints them and exits with 2.

    Args:
        lines: One line, or several in order; duplicates are dropped.
        hint: Text that helps with all of them, such as an example; printed once, below the lines.
    """

    def __init__(self, lines: str | Iterable[str], hint: str = "") -> None:
        self.lines: tuple[str, ...] = (lines,) if isinstance(lines, str) else tuple(dict.fromkeys(lines))
        self.hint = hint
        super().__init__("\n".join([*self.lines, *([f"\n{hint}"] if hint else [])]))


class VariantFailed(UserError):
    """One variant cannot be trained to its end. The run continues without it, and the command line exits with 3.

    Args:
        lines: One line, or several in order.
        step: Optimiser step at which the training failed, counted from 1.
    """

    def __init__(self, lines: str | Iterable[str], step: int) -> None:
        super().__init__(lines)
        self.step = step


def did_you_mean(word: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    """Return a text like `; did you mean 'beta'?` if a known word is close to `word`, else an empty string.

    Args:
        word: what was written.
        known: what might have been meant.
        cutoff: the least share of common letters, 0 to 1.
    """
    close = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""
