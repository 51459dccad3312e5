"""Rows to pairs or labelled answers, by the schema that fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefzoo.data.examples import Example, LabelledAnswer, Pair
from prefzoo.data.rows import MAX_FAULTS, Row
from prefzoo.data.schemas.checks import check_example
from prefzoo.data.schemas.preference_pairs import PAIR_COLUMNS
from prefzoo.data.schemas.registry import Schema, all_schemas, detect_schema
from prefzoo.errors import UserError, did_you_mean


def normalise(rows: Sequence[Row], spec: str) -> list[Pair] | list[LabelledAnswer]:
    """Turn rows into pairs with an explicit prompt, or into labelled answers.

    Args:
        rows: of one data set; their columns decide which schema they have.
        spec: name of the data set, for messages.

    Returns:
        An example for each row, in order.

    Raises:
        UserError: no schema fits, or several do; or a line `spec: row n: ...` (rows from 1) for each row that is
            refused, at most 20.
    """
    schema = _schema_of(rows, spec)
    pairs: list[Pair] = []
    answers: list[LabelledAnswer] = []
    faults: list[str] = []
    for index, row in enumerate(rows):
        try:
            example = _example(schema, row, index)
        except UserError as e:
            faults += [f"{spec}: row {index + 1}: {line}" for line in e.lines]
            continue
        if isinstance(example, Pair):
            pairs.append(example)
        else:
            answers.append(example)
    if faults:
        more = [f"{spec}: and {len(faults) - MAX_FAULTS} more rows like these"] if len(faults) > MAX_FAULTS else []
        raise UserError(faults[:MAX_FAULTS] + more)
    if pairs and answers:
        raise UserError(f"{spec}: schema {schema.name!r} makes pairs of some rows and single answers of others; fix it")
    return answers or pairs


def describe(rows: Sequence[Row], spec: str = "data") -> str:
    """Return the schema of rows in words, with the kind of text of the first."""
    schema = _schema_of(rows, spec)
    first = _example(schema, rows[0], 0)
    answer = first.chosen if isinstance(first, Pair) else first.completion
    return f"{schema.name}, {'plain strings' if isinstance(answer, str) else 'conversational'}"


def rename_columns(rows: Sequence[Row], columns: Mapping[str, str], spec: str) -> list[Row]:
    """Add the columns that a schema knows by other names than the file.

    Args:
        rows: as the file has them.
        columns: the schema's name of a column -> the file's.
        spec: name of the data set, for messages.

    Returns:
        The rows, with every column that the schema needs or `columns` names; None where a row has no value.

    Raises:
        UserError: a line for each such column that no row has.
    """
    have = sorted(_columns(rows))
    schema = detect_schema({*have, *columns}, spec)
    needed = schema.columns if schema else PAIR_COLUMNS
    wanted = {ours: columns.get(ours, ours) for ours in (*needed, *columns)}
    missing = [
        f"{spec}: no column {theirs!r} for {ours}; it has {', '.join(have)}{did_you_mean(theirs, have)}"
        f" (map it: data.columns.{ours}: NAME)"
        for ours, theirs in wanted.items()
        if theirs not in have
    ]
    if missing:
        raise UserError(missing)
    return [{**row, **{ours: row.get(theirs) for ours, theirs in wanted.items()}} for row in rows]


def _columns(rows: Sequence[Row]) -> set[str]:
    return {name for row in rows for name in row}


def _schema_of(rows: Sequence[Row], spec: str) -> Schema:
    columns = _columns(rows)
    schema = detect_schema(columns, spec)
    if schema is None:
        known = "; ".join(f"{s.name}: {', '.join(s.columns)}" for s in all_schemas())
        raise UserError(f"{spec}: its columns {', '.join(sorted(columns))} fit no schema; known are {known}")
    return schema


def _example(schema: Schema, row: Row, index: int) -> Example:
    """Return a row as a checked example.

    Raises:
        UserError: the row is refused, or the schema fails on it.
    """
    try:
        example = schema.normalise({**dict.fromkeys(schema.columns), **row}, index)
    except UserError:
        raise
    except Exception as e:  # a plug-in's own error: the user needs to know whose, and at which row
        raise UserError(f"schema {schema.name!r} fails: {type(e).__name__}: {e}; fix the schema, or the row") from e
    if not isinstance(example, Pair | LabelledAnswer):
        raise UserError(
            f"schema {schema.name!r} gives {type(example).__name__}, not a Pair or a LabelledAnswer; fix it"
        )
    check_example(example)
    return example
