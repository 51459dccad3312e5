"""The registry of schemas, functions that turn a row of a known shape into a pair or a labelled answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from prefzoo.data.rows import Row
from prefzoo.data.schemas.rankings import FromRow
from prefzoo.errors import UserError, did_you_mean
from prefzoo.runtime.plugins import load_entry_points

GROUP = "prefzoo.schemas"  # the entry points with schemas of installed packages
Detect = Callable[[frozenset[str]], str]
Matches = Callable[[Sequence[Row]], bool]
Gather = Callable[[Sequence[Row]], Iterable[tuple[int, Row]]]
Normalise = Callable[[Row, int], FromRow]
SAMPLE = 100  # most rows whose values are tested to detect a schema


@dataclass(frozen=True)
class Schema:
    """One known shape of rows.

    Attributes:
        name: its name in messages, audits and `data.format`.
        columns: columns that a data set of this shape must have.
        detect: function from the names of all columns to the reason why this schema fits; empty if it does not.
        normalise: function from a row and its index to a `Pair`, a `LabelledAnswer`, or `RatedAnswers`, from which the
            pairs that the recipe asks for are built. Required columns that the row lacks are None. It raises a
            `UserError` for a row that it refuses, and `SkipRow` for one without a preference.
        optional: columns that it reads if a row has them.
        before: names of schemas that also fit its rows and that this one takes precedence over.
        matches: function from up to 100 rows to whether their values fit, too; None if the columns suffice.
        gather: function that groups rows: it yields the index of a group's first row, and one row for the group. None
            if each row is read by itself.
        turns: whether it splits plain text into messages, which needs a chat template.
        example: a row of this shape, or the rows of one group.
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
        """The example as a list of rows."""
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
    """Register the decorated function as the `normalise` of a new schema.

    Args:
        name: its name in messages, audits and `data.format`.
        columns: columns that a data set of this shape must have.
        detect: function from the names of all columns to the reason why this schema fits; empty if it does not. By
            default, a schema fits if all of `columns` are present.
        optional, before, matches, gather, turns, example: see `Schema`.

    Returns:
        A decorator that replaces a function from a row and its index by a `Schema`.

    Raises:
        UserError: the name is registered by a function in another file.
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
    """Return all schemas: the built-in ones as registered, then those of installed packages sorted by name."""
    _load_entry_points()
    built_in = [s for s in _SCHEMAS.values() if _is_built_in(s)]
    return built_in + sorted((s for s in _SCHEMAS.values() if not _is_built_in(s)), key=lambda s: s.name)


def schema_names() -> list[str]:
    """Return the names of all schemas, which are the values of `data.format`."""
    return [s.name for s in all_schemas()]


def column_names() -> list[str]:
    """Return the names of all columns that schemas read."""
    return list(dict.fromkeys(name for s in all_schemas() for name in (*s.columns, *s.optional)))


def get_schema(name: str) -> Schema:
    """Return the schema with a name.

    Raises:
        UserError: there is no such schema.
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
        columns: the names of all columns.
        rows: rows of the data set; some of them are tested with `Schema.matches`.
        spec: name of the data set, for messages.
        turns: whether to consider schemas that split plain text into messages.

    Returns:
        The schema; if several fit, the one that takes precedence by `Schema.before`.

    Raises:
        UserError: several schemas fit, and none of them takes precedence.
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
    """Import the schemas of installed packages; report and skip those that fail to load."""
    load_entry_points(
        GROUP, lambda _, offered: None if isinstance(offered, Schema) else "it is not decorated with @schema"
    )
