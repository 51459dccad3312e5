"""Which columns of a file are those of a schema, whatever their names, and which are not read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefzoo.data.rows import Row
from prefzoo.data.schemas.doubts import check_meaning
from prefzoo.data.schemas.preference_pairs import PAIR_COLUMNS
from prefzoo.data.schemas.registry import Schema, column_names, detect_schema, get_schema
from prefzoo.errors import UserError, did_you_mean

SURELY_MEANT = 0.8  # share of common letters from which a column is suggested
TEMPLATE_COLUMNS = ("tools", "chat_template_kwargs")  # read whatever the schema


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
    have = _columns(rows)
    return renamed(rows, spec, columns, detect_schema({*have, *columns}, _mapped(rows, columns), spec))


def fold_columns(
    rows: Sequence[Row], spec: str, columns: Mapping[str, str], form: str | None, *, turns: bool
) -> dict[str, str]:
    """Return columns that a schema reads under the lower-case form of their names, like `Prompt`.

    Args:
        rows: of one data set; of a large one, the first.
        spec: name of the data set, for messages.
        columns: the schema's name of a column -> the file's.
        form: name of the schema, if it is not to be detected.
        turns: whether schemas count that make conversations of plain text.

    Returns:
        The schema's name of a column -> the file's; nothing where the names fit as they are, or two differ in this
        alone.
    """
    have = list(dict.fromkeys(name for row in rows for name in row))
    names = {name: re.sub(r"[\s-]+", "_", name.strip().lower()) for name in have if name not in columns.values()}
    changed = {name: lower for name, lower in names.items() if lower != name and lower in column_names()}
    lower = {ours: theirs for theirs, ours in changed.items()}
    if not lower or {*lower} & {*have, *columns} or len(lower) < len(changed):
        return {}
    if "prompt" not in lower and _schema_of(rows, spec, columns, form, turns=turns) is not None:
        return {}
    all_names = [*have, *lower]
    mapped = _mapped(rows, {**columns, **lower})
    try:
        schema = get_schema(form) if form else detect_schema({*all_names, *columns}, mapped, spec, turns=turns)
    except UserError:
        return {}
    read = (*schema.columns, *schema.optional, *TEMPLATE_COLUMNS) if schema is not None else ()
    folded = {ours: theirs for ours, theirs in lower.items() if ours in read}
    return folded if _schema_of(rows, spec, {**columns, **folded}, form, turns=turns) is not None else {}


def _schema_of(
    rows: Sequence[Row], spec: str, columns: Mapping[str, str], form: str | None, *, turns: bool
) -> Schema | None:
    """Return the schema of rows; None where none fits."""
    try:
        return recognise(rows, spec, columns, form, turns=turns)
    except UserError:
        return None


def recognise(rows: Sequence[Row], spec: str, columns: Mapping[str, str], form: str | None, *, turns: bool) -> Schema:
    """Return the schema of rows.

    Args:
        rows: of one data set; of a large one, the first.
        spec: name of the data set, for messages.
        columns: the schema's name of a column -> the file's.
        form: name of the schema, if it is not to be detected.
        turns: whether schemas count that make conversations of plain text.

    Returns:
        The schema.

    Raises:
        UserError: no schema fits, or several do, or columns are missing.
    """
    have = _columns(rows)
    mapped = _mapped(rows, columns)
    schema = get_schema(form) if form else detect_schema({*have, *columns}, mapped, spec, turns=turns)
    renamed(rows, spec, columns, schema)
    assert schema is not None  # otherwise columns are missing
    unread = [name for name in columns if name not in (*schema.columns, *schema.optional, *TEMPLATE_COLUMNS)]
    if unread:
        raise UserError(f"{spec}: data.columns.{name}: format {schema.name!r} reads no such column" for name in unread)
    return schema


def settle(rows: Sequence[Row], spec: str, columns: Mapping[str, str], form: str | None, *, turns: bool) -> Schema:
    """Return the schema of rows, checked against what the rows hold unless the schema is named.

    Args:
        rows, spec, columns, form, turns: as for `recognise`.

    Returns:
        The schema.

    Raises:
        UserError: as `recognise`, or the rows do not mean what their columns say.
    """
    schema = recognise(rows, spec, columns, form, turns=turns)
    if form is None and {*PAIR_COLUMNS} <= {*schema.columns}:
        unused = unused_columns(rows, schema, columns)
        check_meaning(_mapped(rows, columns), spec, unused, schema)
    return schema


def renamed(rows: Sequence[Row], spec: str, columns: Mapping[str, str], schema: Schema | None) -> list[Row]:
    """Add the columns that a schema knows by other names than the file.

    Args:
        rows: as the file has them.
        spec: name of the data set, for messages.
        columns: the schema's name of a column -> the file's.
        schema: of the rows; None where none fits.

    Returns:
        The rows, with every column that the schema needs or `columns` names; None where a row has no value.

    Raises:
        UserError: no schema fits, or a line for each such column that no row has.
    """
    have = sorted(_columns(rows))
    texts = [name for name in have if any(_holds_text(row.get(name)) for row in rows)] if schema is None else have
    if schema is None and not any(name in columns or _likely(name, texts) for name in PAIR_COLUMNS):
        shown = f"its columns {', '.join(have)} fit" if have else "its rows have no columns, which fits"
        raise UserError(
            f"{spec}: {shown} no format; `prefzoo data --formats` lists all; name yours, "
            "like data.columns: {prompt: NAME, chosen: NAME, rejected: NAME}, or, for single answers with a thumb, "
            "{prompt: NAME, completion: NAME, label: NAME}"
        )
    needed = schema.columns if schema else PAIR_COLUMNS
    wanted = {ours: columns.get(ours, ours) for ours in (*needed, *columns)}
    missing = [
        f"{spec}: no column {theirs!r} for {ours}; it has {', '.join(have)}{_likely(theirs, texts)}"
        f" (map it: data.columns.{ours}: NAME; `prefzoo data --formats` lists all formats)"
        for ours, theirs in wanted.items()
        if theirs not in have
    ]
    if missing:
        raise UserError(missing)
    return [{**row, **{ours: row.get(theirs) for ours, theirs in wanted.items()}} for row in rows]


def _likely(name: str, have: Sequence[str]) -> str:
    """Return a suggestion of a column, never one of another meaning: lose shares letters with chosen, as does selected
    with rejected."""
    longer = next((column for column in have if name.lower() in column.lower()), "")
    return f"; did you mean {longer!r}?" if longer else did_you_mean(name, have, cutoff=SURELY_MEANT)


def _mapped(rows: Sequence[Row], columns: Mapping[str, str]) -> Sequence[Row]:
    return [{**row, **{ours: row.get(theirs) for ours, theirs in columns.items()}} for row in rows] if columns else rows


def _columns(rows: Iterable[Row]) -> set[str]:
    return {name for row in rows for name in row}


def unused_columns(rows: Sequence[Row], schema: Schema, columns: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns that hold text and that the schema does not read.

    Args:
        rows: as the file has them.
        schema: of the rows.
        columns: the schema's name of a column -> the file's.

    Returns:
        Their names, in the order of the file.
    """
    read = {*schema.columns, *schema.optional, *TEMPLATE_COLUMNS} - {*columns} | {*columns.values()}
    left = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in read]
    return tuple(name for name in left if any(_holds_text(row.get(name)) for row in rows))


def _holds_text(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_text(one) for one in value[:10])
    if isinstance(value, dict):
        return any(_holds_text(one) for one in value.values())
    return isinstance(value, str) and bool(value.strip())
