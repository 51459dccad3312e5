"""Rows that cannot be used, or are not wanted: named and counted as errors, or left out and recorded."""

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

MAX_FAULTS = 5  # listed at once
MAX_KINDS = 10
OnBadRow = Literal["error", "drop"]
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*")
CURE_OF_ALL = "fix them, or name the data's format or columns (`prefzoo data --formats` lists all formats)"
CURE = "fix them, or leave such rows out: data.on_bad_row: drop"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, or that is left out as the recipe asks.

    Attributes:
        place: its file and line, or its data set and row.
        fault: what is wrong with it, and more on it, like the cure, behind a semicolon.
        row: its content: an object, or the text of a line that is none.
    """

    place: str
    fault: str
    row: Any


class Faults:
    """The rows of one data set that cannot be used, and those that are left out as the recipe asks.

    Attributes:
        rows: those met so far that cannot be used, in order.
        unwanted: those left out as asked, in order.
    """

    def __init__(self, spec: str, on_bad_row: OnBadRow = "error") -> None:
        self.spec, self.on_bad_row = spec, on_bad_row
        self.rows: list[BadRow] = []
        self.unwanted: list[BadRow] = []

    @property
    def left_out(self) -> list[BadRow]:
        """All rows that are left out."""
        return [*self.rows, *self.unwanted]

    def add(self, place: str, fault: str, row: Any) -> None:
        """Record a row that cannot be used.

        Args:
            place: its file and line, or its data set and row.
            fault: what is wrong with it, and the cure; one line.
            row: its content.
        """
        kept = self.on_bad_row == "drop" or len(self.rows) < MAX_FAULTS  # of an error, the first few are shown
        self.rows.append(BadRow(place, fault, row if kept else None))

    def leave_out(self, place: str, reason: str, row: Any) -> None:
        """Record a row that is not wanted, which is no error.

        Args:
            place: its data set and row.
            reason: why, in a few words; more behind a semicolon.
            row: its content.
        """
        self.unwanted.append(BadRow(place, reason, row))

    def settle(self, total: int | None = None) -> None:
        """Return if bad rows are to be left out, or if there are none.

        Args:
            total: number of rows of the data set, if it is known.

        Raises:
            UserError: there are some; a line for each of the first few, then the number of each kind.
        """
        if not self.rows or self.on_bad_row == "drop":
            return
        lines = [f"{bad.place}: {bad.fault}" for bad in self.rows[:MAX_FAULTS]]
        if len(self.rows) > MAX_FAULTS:
            which, cure = ("all ", CURE_OF_ALL) if len(self.rows) == total else ("", CURE)
            lines.append(f"{self.spec}: {which}{len(self.rows):,} rows are refused: {self._kinds()}; {cure}")
        raise UserError(lines)

    def counts(self) -> Counter[str]:
        """Return how many rows were left out, by kind of fault."""
        return Counter(f"dropped: {_kind(bad.fault)}" for bad in self.left_out)

    def _kinds(self) -> str:
        counted = Counter(_kind(bad.fault) for bad in self.rows).most_common()
        shown = [f"{n:,} x {kind}" for kind, n in counted[:MAX_KINDS]]
        rest = sum(n for _, n in counted[MAX_KINDS:])
        return ", ".join(shown + ([f"{rest:,} x something else"] if rest else []))


def write_bad_rows(path: Path, rows: Sequence[BadRow]) -> None:
    """Write rows that were left out to a JSONL file, each with its place and its fault; remove it without any."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with write_atomically(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False, default=str) + "\n" for row in rows)


def _kind(fault: str) -> str:
    """Return a fault without its cure and its values: equal texts are the same kind of fault."""
    return _VALUES.sub("…", fault.partition(";")[0])
