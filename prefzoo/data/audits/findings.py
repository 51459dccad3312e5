"""Odd rows of a data set, as arrays of indices and as counts with examples for users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from prefzoo.data.audits.kinds import KINDS
from prefzoo.data.mixtures import Origins

Rows = npt.NDArray[np.int64]
NONE = -1  # in place of the index of a second row, if there is none
EXAMPLES = 5  # most rows that are listed for each finding


@dataclass(frozen=True)
class Flagged:
    """The odd rows of one kind.

    Attributes:
        kind: a key of `KINDS`.
        rows: (N,) indices of the odd rows, from 0, ascending.
        others: (N,) index of the row that each one contradicts or repeats; `NONE` if there is none.
        against: name of the data set that `others` are from; empty if it is the same one.
    """

    kind: str
    rows: Rows
    others: Rows
    against: str = ""

    def reason(self, at: int, origins: Origins | None = None) -> str:
        """Return why a row is left out.

        Args:
            at: the row's position in `rows`.
            origins: the sources of a mixture; None if there is one source.

        Returns:
            The reason; details follow a semicolon.
        """
        row = int(self.others[at])
        other = f"row {row + 1} of {self.against}" if self.against else f"row {row + 1}"
        if origins is not None and not self.against and row != NONE:
            other = origins.place(row)
        return KINDS[self.kind].reason.format(other=other)


@dataclass(frozen=True)
class Finding:
    """The odd rows of one kind, as a count with examples.

    Attributes:
        name: the key in `KINDS`.
        words: a phrase that states what is odd.
        count: number of odd rows.
        rows: the first few odd rows, numbered from 1: (row,) or (row, row that it contradicts or repeats).
        against: name of the data set that the second row is from; empty if it is the same one.
        drop: the word of `data.drop` that leaves such rows out; empty if there is none.
        sources: source -> number of odd rows; empty without a mixture.
        places: each item of `rows` with the names of its sources; empty without a mixture.
    """

    name: str
    words: str
    count: int
    rows: tuple[tuple[int, ...], ...]
    against: str = ""
    drop: str = ""
    sources: Mapping[str, int] = field(default_factory=dict)
    places: tuple[str, ...] = ()


def finding_of(flagged: Flagged, *, single: bool = False, origins: Origins | None = None) -> Finding:
    """Summarise the odd rows of one kind.

    Args:
        flagged: the odd rows.
        single: whether they are labelled answers, which are called desirable or undesirable.
        origins: the sources of a mixture; None if there is one source.

    Returns:
        The finding.
    """
    kind = KINDS[flagged.kind]
    words = kind.words.replace("chosen", "desirable").replace("rejected", "undesirable") if single else kind.words
    rows = _examples(flagged)
    sources, places = dict[str, int](), tuple[str, ...]()
    if origins is not None:
        counts = Counter(origins.number(row) for row in flagged.rows.tolist())
        sources = {name: counts[i] for i, name in enumerate(origins.names) if counts[i]}
        places = tuple(_placed(numbers, flagged.against, origins) for numbers in rows)
    return Finding(
        flagged.kind, words, len(flagged.rows), rows, flagged.against, kind.drop or "", sources, places
    )  # fmt: skip


def _placed(numbers: tuple[int, ...], against: str, origins: Origins) -> str:
    """Return an item of `Finding.rows` with the source of each row, like `a.jsonl: row 3 and b.jsonl: row 1`."""
    mine = numbers[:1] if against else numbers
    return " and ".join(
        [*(origins.place(n - 1) for n in mine), *(f"row {n} of {against}" for n in numbers[len(mine) :])]
    )


def findings_of(audit: Mapping[str, Any]) -> list[Finding]:
    """Return the findings in the content of a `data_audit.json`; older files have none."""
    read = audit.get("findings") or ()
    lists = ("rows", "places")
    return [Finding(**{**one, **{name: tuple(map(_as_tuple, one.get(name, ()))) for name in lists}}) for one in read]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _examples(flagged: Flagged) -> tuple[tuple[int, ...], ...]:
    """Return `Finding.rows`. Two rows that contradict each other are listed once."""
    examples: list[tuple[int, ...]] = []
    for row, other in zip((flagged.rows + 1).tolist(), (flagged.others + 1).tolist(), strict=True):
        if flagged.against or (other, row) not in examples:
            examples.append((row, other) if other else (row,))
        if len(examples) == EXAMPLES:
            break
    return tuple(examples)


def flagged_rows(kind: str, rows: Sequence[int] | Rows, others: Sequence[int] | Rows | None = None) -> Flagged:
    """Sort odd rows of one kind, and return them as `Flagged`.

    Args:
        kind: a key of `KINDS`.
        rows: indices of the odd rows, from 0.
        others: index of the row that each one contradicts or repeats; None if there are none.

    Returns:
        The odd rows, ascending.
    """
    first = np.asarray(rows, np.int64)
    second = np.full(len(first), NONE, np.int64) if others is None else np.asarray(others, np.int64)
    ascending = np.argsort(first, kind="stable")
    return Flagged(kind, first[ascending], second[ascending])


def example_words(finding: Finding) -> str:
    """Return a finding's examples as text, like `rows 3 and 17, 5 and 9`, with an ellipsis if there are more."""
    named = {number for numbers in finding.rows for number in (numbers[:1] if finding.against else numbers)}
    more = ", …" if finding.count > len(named) else ""
    if finding.places:
        shares = ", ".join(f"{name} {n}" for name, n in finding.sources.items())
        return f"{', '.join(finding.places)}{more} ({shares})"
    shown = [" and ".join(map(str, numbers)) for numbers in finding.rows]
    noun = "row" if len(shown) == len(named) == 1 and not finding.against else "rows"
    return f"{noun} {', '.join(shown)}{more}" + (f" (the second of {finding.against})" if finding.against else "")
