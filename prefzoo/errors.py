"""The one exception that means "the user can mend this": it is printed as it stands, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """One or more complaints, each a single line with place, value and cure. The CLI prints them and exits with 2.

    Args:
        lines: one line, or all that was found wrong at once (order kept, duplicates dropped).
    """

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines: tuple[str, ...] = (lines,) if isinstance(lines, str) else tuple(dict.fromkeys(lines))
        super().__init__("\n".join(self.lines))


class VariantFailed(UserError):
    """One variant cannot be trained to its end. The run goes on without it, and the CLI exits with 3.

    Args:
        step: the optimiser step at which it ended, from 1.
    """

    def __init__(self, lines: str | Iterable[str], step: int) -> None:
        super().__init__(lines)
        self.step = step


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`"; did you mean 'beta'?"` when something known is close to `word`, else an empty string."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
