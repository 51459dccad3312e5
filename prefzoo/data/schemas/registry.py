"""The registry of schemas: a decorated function turns a row of one known shape into a pair or a labelled answer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

from prefzoo.data.examples import Example
from prefzoo.data.rows import Row
from prefzoo.errors import UserError
from prefzoo.runtime.plugins import load_entry_points

GROUP = "prefzoo.schemas"  # of the entry points by which installed packages offer schemas
Detect = Callable[[frozenset[str]], str]
Normalise = Callable[[Row, int], Example]


@dataclass(frozen=True)
class Schema:
    """One known shape of rows.

    Attributes:
        name: as messages and audits show it.
        columns: those that a data set of this shape must have.
        detect: takes the names of all columns, and returns why they are of this schema, or an empty string.
        normalise: takes a row and its index, and returns a `Pair` or a `LabelledAnswer`. Columns that the row lacks
            are None. It raises a `UserError` for a row that it refuses.
        optional: columns that it reads if they are there.
        before: names of schemas that this one is preferred to where both fit.
    """

    name: str
    columns: tuple[str, ...]
    detect: Detect
    normalise: Normalise
    optional: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


_SCHEMAS: dict[str, Schema] = {}


def schema(
    name: str,
    *,
    columns: Collection[str],
    detect: Detect | None = None,
    optional: Collection[str] = (),
    before: Collection[str] = (),
) -> Callable[[Normalise], Schema]:
    """Register the decorated function as the normalisation of a schema.

    Args:
        name: as messages and audits show it.
        columns: those that a data set of this shape must have.
        detect: takes the names of all columns, and returns why they are of this schema, or an empty string; by default
            a data set with all of `columns` is.
        optional: columns that it reads if they are there.
        before: names of schemas that this one is preferred to where both fit.

    Returns:
        A decorator that makes a `Schema` of a function of a row and its index.

    Raises:
        UserError: another function has registered the name.
    """

    def register(normalise: Normalise) -> Schema:
        entry = Schema(name, tuple(columns), detect or _has_all(columns), normalise, tuple(optional), tuple(before))
        taken = _SCHEMAS.get(name)
        if taken is not None and _source(taken) != _source(entry):
            raise UserError(f"schema {name!r} of {_source(entry)} is taken by {_source(taken)}; rename one of them")
        _SCHEMAS[name] = entry
        return entry

    return register


def all_schemas() -> list[Schema]:
    """Return every registered schema, those of installed packages included, in the order of their names."""
    _load_entry_points()
    return sorted(_SCHEMAS.values(), key=lambda s: s.name)


def column_names() -> list[str]:
    """Return the name of every column that some schema reads."""
    return list(dict.fromkeys(name for s in all_schemas() for name in (*s.columns, *s.optional)))


def detect_schema(columns: Collection[str], spec: str) -> Schema | None:
    """Find the one schema that fits a data set; None if none does.

    Args:
        columns: names of the data set's columns.
        spec: name of the data set, for messages.

    Returns:
        The schema, after `Schema.before` has settled which of several is meant.

    Raises:
        UserError: several schemas fit, and none is preferred.
    """
    reasons = {s.name: (s, reason) for s in all_schemas() if (reason := s.detect(frozenset(columns)))}
    preceded = {name for s, _ in reasons.values() for name in s.before}
    fitting = [item for name, item in reasons.items() if name not in preceded] or list(reasons.values())
    if len(fitting) > 1:
        named = " and ".join(f"{s.name!r} (it {reason})" for s, reason in fitting)
        raise UserError(
            f"{spec}: fits {len(fitting)} schemas, {named}; remove the columns of all but one, or let one schema come "
            "before the others"
        )
    return fitting[0][0] if fitting else None


def _has_all(columns: Collection[str]) -> Detect:
    needed = frozenset(columns)
    return lambda have: f"has {', '.join(sorted(needed))}" if needed <= have else ""


def _source(entry: Schema) -> str:
    return entry.normalise.__code__.co_filename


@lru_cache(maxsize=1)
def _load_entry_points() -> None:
    """Import the schemas of installed packages. One that is broken is reported and left out."""
    load_entry_points(
        GROUP, lambda _, offered: None if isinstance(offered, Schema) else "it is not decorated with @schema"
    )
