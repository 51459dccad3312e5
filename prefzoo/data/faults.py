"""Collect the rows that cannot be used or that the recipe leaves out, and raise or record them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from prefzoo.errors import UserError
from prefzoo.runtime.atomic_files import write_atomically

MAX_FAULTS = 5  # rows that an error lists
MAX_KINDS = 10  # kinds of faults that an error counts
OnBadRow = Literal["error", "drop"]
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*")
CURE_OF_ALL = "fix them, or name the data's format or columns (`prefzoo data --formats` lists all formats)"
CURE = "fix them, or leave such rows out: data.on_bad_row: drop"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, or that the recipe leaves out.

    Attributes:
        place: its file and line, or its data set and row.
        fault: what is wrong with it; details, such as the cure, follow a semicolon.
        row: its content: an object, or the text of a line that is not a JSON object.
    """

    place: str
    fault: str
    row: Any


class Faults:
    """The bad rows of one data set.

    Args:
        spec: name of the data set, for messages.
        on_bad_row: whether `settle` raises for rows that cannot be used (`error`), or they are left out (`drop`).

    Attributes:
        rows: the rows that cannot be used, in order.
        unwanted: the rows that the recipe leaves out, in order.
    """

    def __init__(self, spec: str, on_bad_row: OnBadRow = "error") -> None:
        self.spec, self.on_bad_row = spec, on_bad_row
        self.rows: list[BadRow] = []
        self.unwanted: list[BadRow] = []

    @property
    def left_out(self) -> list[BadRow]:
        """All recorded rows: those that cannot be used, then those that the recipe leaves out."""
        return [*self.rows, *self.unwanted]

    def add(self, place: str, fault: str, row: Any) -> None:
        """Record a row that cannot be used.

        Args:
            place: its file and line, or its data set and row.
            fault: one line with what is wrong, a semicolon, and the cure.
            row: its content.
        """
        kept = self.on_bad_row == "drop" or len(self.rows) < MAX_FAULTS  # an error shows the first few only
        self.rows.append(BadRow(place, fault, row if kept else None))

    def leave_out(self, place: str, reason: str, row: Any) -> None:
        """Record a row that the recipe leaves out, which is not an error.

        Args:
            place: its data set and row.
            reason: why it is left out, in a few words; details follow a semicolon.
            row: its content.
        """
        self.unwanted.append(BadRow(place, reason, row))

    def settle(self, total: int | None = None) -> None:
        """Raise an error if there are rows that cannot be used and `on_bad_row` is `error`.

        Args:
            total: number of rows of the data set; None if it is not known.

        Raises:
            UserError: there are such rows. The message has a line for each of the first `MAX_FAULTS`, and then the
                number of rows by kind of fault.
        """
        if not self.rows or self.on_bad_row == "drop":
            return
        lines = [f"{bad.place}: {bad.fault}" for bad in self.rows[:MAX_FAULTS]]
        if len(self.rows) > MAX_FAULTS:
            which, cure = ("all ", CURE_OF_ALL) if len(self.rows) == total else ("", CURE)
            lines.append(f"{self.spec}: {which}{len(self.rows):,} rows are refused: {self._kinds()}; {cure}")
        raise UserError(lines)

    def counts(self) -> Counter[str]:
        """Return the number of rows that were left out, by kind of fault."""
        return Counter(f"dropped: {_kind(bad.fault)}" for bad in self.left_out)

    def _kinds(self) -> str:
        counted = Counter(_kind(bad.fault) for bad in self.rows).most_common()
        shown = [f"{n:,} x {kind}" for kind, n in counted[:MAX_KINDS]]
        rest = sum(n for _, n in counted[MAX_KINDS:])
        return ", ".join(shown + ([f"{rest:,} x something else"] if rest else []))


def write_bad_rows(path: Path, rows: Sequence[BadRow]) -> None:
    """Write rows that were left out to a JSONL file, with place and fault. Delete the file if there are none."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with write_atomically(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False, default=str) + "\n" for row in rows)


def _kind(fault: str) -> str:
    """Return the kind of a fault: its text without the cure, and with values replaced by an ellipsis."""
    return _VALUES.sub("…", fault.partition(";")[0])
