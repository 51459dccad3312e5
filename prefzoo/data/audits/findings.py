"""What an audit sees in the rows of a data set, and how it is named."""

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
NONE = -1  # in place of a second row
EXAMPLES = 5  # rows that are named for each finding


@dataclass(frozen=True)
class Flagged:
    """The rows of a data set in which an audit sees one thing.

    Attributes:
        kind: a name of `KINDS`.
        rows: (N,) indices of the rows, from 0, ascending.
        others: (N,) index of the row that each stands against; `NONE` without one.
        against: name of the data set of the second rows; empty for the same one.
    """

    kind: str
    rows: Rows
    others: Rows
    against: str = ""

    def reason(self, at: int, origins: Origins | None = None) -> str:
        """Return why a row is left out.

        Args:
            at: its position in `rows`.
            origins: which rows are of which source, where there are several.

        Returns:
            The reason, with its details behind a semicolon.
        """
        row = int(self.others[at])
        other = f"row {row + 1} of {self.against}" if self.against else f"row {row + 1}"
        if origins is not None and not self.against and row != NONE:
            other = origins.place(row)
        return KINDS[self.kind].reason.format(other=other)


@dataclass(frozen=True)
class Finding:
    """What an audit sees, in numbers and examples.

    Attributes:
        name: its name in `KINDS`.
        words: what is the case in such a row.
        count: number of such rows.
        rows: the first few, each as its number from 1, with the number of the row that it stands against if any.
        against: name of the data set of the second numbers; empty for the same one.
        drop: the word of `data.drop` that leaves such rows out; empty if none does.
        sources: number of such rows by source, where there are several.
        places: the examples in words, where there are several sources.
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
    """Return what an audit saw as numbers and examples.

    Args:
        flagged: the rows.
        single: whether they are single labelled answers, which are desirable or undesirable.
        origins: which rows are of which source, where there are several.

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
    """Return one example with the source of each row, like `a.jsonl: row 3 and b.jsonl: row 1`."""
    mine = numbers[:1] if against else numbers
    return " and ".join(
        [*(origins.place(n - 1) for n in mine), *(f"row {n} of {against}" for n in numbers[len(mine) :])]
    )


def findings_of(audit: Mapping[str, Any]) -> list[Finding]:
    """Return the findings of an audit as `data_audit.json` holds it; older files hold none."""
    read = audit.get("findings") or ()
    lists = ("rows", "places")
    return [Finding(**{**one, **{name: tuple(map(_as_tuple, one.get(name, ()))) for name in lists}}) for one in read]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _examples(flagged: Flagged) -> tuple[tuple[int, ...], ...]:
    """Return the first rows, from 1, with their second rows; of two rows that stand against each other, one pair."""
    examples: list[tuple[int, ...]] = []
    for row, other in zip((flagged.rows + 1).tolist(), (flagged.others + 1).tolist(), strict=True):
        if flagged.against or (other, row) not in examples:
            examples.append((row, other) if other else (row,))
        if len(examples) == EXAMPLES:
            break
    return tuple(examples)


def flagged_rows(kind: str, rows: Sequence[int] | Rows, others: Sequence[int] | Rows | None = None) -> Flagged:
    """Return rows as `Flagged` of a kind.

    Args:
        kind: a name of `KINDS`.
        rows: indices, from 0.
        others: the second rows; None without any.

    Returns:
        The flagged rows, ascending.
    """
    first = np.asarray(rows, np.int64)
    second = np.full(len(first), NONE, np.int64) if others is None else np.asarray(others, np.int64)
    ascending = np.argsort(first, kind="stable")
    return Flagged(kind, first[ascending], second[ascending])


def example_words(finding: Finding) -> str:
    """Return the examples of a finding in words, like `rows 3 and 17, 5 and 9`; with an ellipsis if there are more."""
    named = {number for numbers in finding.rows for number in (numbers[:1] if finding.against else numbers)}
    more = ", …" if finding.count > len(named) else ""
    if finding.places:
        shares = ", ".join(f"{name} {n}" for name, n in finding.sources.items())
        return f"{', '.join(finding.places)}{more} ({shares})"
    shown = [" and ".join(map(str, numbers)) for numbers in finding.rows]
    noun = "row" if len(shown) == len(named) == 1 and not finding.against else "rows"
    return f"{noun} {', '.join(shown)}{more}" + (f" (the second of {finding.against})" if finding.against else "")
