"""The registry of schemas: a decorated function turns a row of one known shape into a pair or a labelled answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from prefzoo.data.rows import Row
from prefzoo.data.schemas.rankings import FromRow
from prefzoo.errors import UserError, did_you_mean
from prefzoo.runtime.plugins import load_entry_points

GROUP = "prefzoo.schemas"  # of the entry points by which installed packages offer schemas
Detect = Callable[[frozenset[str]], str]
Matches = Callable[[Sequence[Row]], bool]
Gather = Callable[[Sequence[Row]], Iterable[tuple[int, Row]]]
Normalise = Callable[[Row, int], FromRow]
SAMPLE = 100  # rows by whose values a schema is told


@dataclass(frozen=True)
class Schema:
    """One known shape of rows.

    Attributes:
        name: as messages and audits show it.
        columns: those that a data set of this shape must have.
        detect: takes the names of all columns, and returns why they are of this schema, or an empty string.
        normalise: takes a row and its index, and returns a `Pair`, a `LabelledAnswer`, or a `Ranking`, of which pairs
            are made as the recipe asks. Columns that the row lacks are None. It raises a `UserError` for a row that it
            refuses.
        optional: columns that it reads if they are there.
        before: names of schemas that this one is preferred to where both fit.
        matches: takes up to 100 rows with fitting columns, and returns whether their values fit too; None where the
            columns decide.
        gather: makes one row, with the index of the first, of several that belong together; None where each stands
            for itself.
        turns: whether it makes conversations of plain text, which needs a chat template.
        example: a row of this shape, or several that belong together.
    """

    name: str
    columns: tuple[str, ...]
    detect: Detect
    normalise: Normalise
    optional: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    matches: Matches | None = None
    gather: Gather | None = None
    turns: bool = False
    example: Row | tuple[Row, ...] = ()

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.normalise) or "").partition("\n")[0]

    @property
    def example_rows(self) -> list[Row]:
        """The rows of the example; empty without one."""
        return [self.example] if isinstance(self.example, dict) else list(self.example)


_SCHEMAS: dict[str, Schema] = {}


def schema(
    name: str,
    *,
    columns: Collection[str],
    detect: Detect | None = None,
    optional: Collection[str] = (),
    before: Collection[str] = (),
    matches: Matches | None = None,
    gather: Gather | None = None,
    turns: bool = False,
    example: Row | tuple[Row, ...] = (),
) -> Callable[[Normalise], Schema]:
    """Register the decorated function as the normalisation of a schema.

    Args:
        name: as messages and audits show it.
        columns: those that a data set of this shape must have.
        detect: takes the names of all columns, and returns why they are of this schema, or an empty string; by default
            a data set with all of `columns` is.
        optional: columns that it reads if they are there.
        before: names of schemas that this one is preferred to where both fit.
        matches, gather, turns, example: as of a `Schema`.

    Returns:
        A decorator that makes a `Schema` of a function of a row and its index.

    Raises:
        UserError: another function has registered the name.
    """

    def register(normalise: Normalise) -> Schema:
        entry = Schema(
            name, tuple(columns), detect or _has_all(columns), normalise, tuple(optional), tuple(before), matches,
            gather, turns, example,
        )  # fmt: skip
        taken = _SCHEMAS.get(name)
        if taken is not None and _source(taken) != _source(entry):
            raise UserError(f"schema {name!r} of {_source(entry)} is taken by {_source(taken)}; rename one of them")
        _SCHEMAS[name] = entry
        return entry

    return register


def all_schemas() -> list[Schema]:
    """Return every registered schema: the built-in ones in their order, then those of installed packages by name."""
    _load_entry_points()
    built_in = [s for s in _SCHEMAS.values() if _is_built_in(s)]
    return built_in + sorted((s for s in _SCHEMAS.values() if not _is_built_in(s)), key=lambda s: s.name)


def schema_names() -> list[str]:
    """Return the name of every schema, as `data.format` takes it."""
    return [s.name for s in all_schemas()]


def column_names() -> list[str]:
    """Return the name of every column that some schema reads."""
    return list(dict.fromkeys(name for s in all_schemas() for name in (*s.columns, *s.optional)))


def get_schema(name: str) -> Schema:
    """Return the schema of a name.

    Raises:
        UserError: there is none.
    """
    known = {s.name: s for s in all_schemas()}
    if name not in known:
        raise UserError(
            f"format: no such format {name!r}{did_you_mean(name, list(known))}; `prefzoo data --formats` lists all"
        )
    return known[name]


def detect_schema(columns: Collection[str], rows: Sequence[Row], spec: str, *, turns: bool = True) -> Schema | None:
    """Find the one schema that fits a data set; None if none does.

    Args:
        columns: names of the data set's columns.
        rows: of the data set, for schemas that values tell apart.
        spec: name of the data set, for messages.
        turns: whether schemas count that make conversations of plain text.

    Returns:
        The schema, after `Schema.before` has settled which of several is meant.

    Raises:
        UserError: several schemas fit, and none is preferred.
    """
    sample = rows[:: max(len(rows) // SAMPLE, 1)][:SAMPLE]
    candidates = [s for s in all_schemas() if turns or not s.turns]
    reasons = {
        s.name: (s, reason)
        for s in candidates
        if (reason := s.detect(frozenset(columns))) and (s.matches is None or s.matches(sample))
    }
    preceded = {name for s, _ in reasons.values() for name in s.before}
    fitting = [item for name, item in reasons.items() if name not in preceded] or list(reasons.values())
    if len(fitting) > 1:
        named = " and ".join(f"{s.name!r} (it {reason})" for s, reason in fitting)
        raise UserError(
            f"{spec}: fits {len(fitting)} schemas, {named}; name one, like data.format: {fitting[0][0].name}, remove "
            "the columns of all but one, or let one schema come before the others"
        )
    return fitting[0][0] if fitting else None


def _has_all(columns: Collection[str]) -> Detect:
    needed = frozenset(columns)
    return lambda have: f"has {', '.join(sorted(needed))}" if needed <= have else ""


def _source(entry: Schema) -> str:
    return entry.normalise.__code__.co_filename


def _is_built_in(entry: Schema) -> bool:
    return entry.normalise.__module__.startswith(__package__ or "")


@lru_cache(maxsize=1)
def _load_entry_points() -> None:
    """Import the schemas of installed packages. One that is broken is reported and left out."""
    load_entry_points(
        GROUP, lambda _, offered: None if isinstance(offered, Schema) else "it is not decorated with @schema"
    )
