"""Match the columns of a file with those of a schema, and find the columns that are not read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefzoo.data.rows import Row
from prefzoo.data.schemas.doubts import check_meaning
from prefzoo.data.schemas.preference_pairs import PAIR_COLUMNS
from prefzoo.data.schemas.registry import Schema, column_names, detect_schema, get_schema
from prefzoo.errors import UserError, did_you_mean

SURELY_MEANT = 0.8  # least similarity of names for a suggestion, from 0 to 1
TEMPLATE_COLUMNS = ("tools", "chat_template_kwargs")  # read with every schema


def rename_columns(rows: Sequence[Row], columns: Mapping[str, str], spec: str) -> list[Row]:
    """Detect the schema of rows, and copy their columns to the names that the schema uses.

    Args:
        rows: the rows of the file.
        columns: the schema's name of a column -> the file's name of it.
        spec: name of the data set, for messages.

    Returns:
        The rows with every column that the schema needs or `columns` names; None in rows that lack it.

    Raises:
        UserError: no schema fits, or one line for each needed column that no row has.
    """
    have = _columns(rows)
    return renamed(rows, spec, columns, detect_schema({*have, *columns}, _mapped(rows, columns), spec))


def fold_columns(
    rows: Sequence[Row], spec: str, columns: Mapping[str, str], form: str | None, *, turns: bool
) -> dict[str, str]:
    """Find columns whose lower-case names a schema reads, like `Prompt`.

    Args:
        rows: rows of one data set; the first part of a large one.
        spec: name of the data set, for messages.
        columns: the schema's name of a column -> the file's name of it.
        form: the name of the schema; detected if None.
        turns: whether to consider schemas that split plain text into messages.

    Returns:
        The schema's name of a column -> the file's name of it; empty if no schema needs them, or if two names have the
        same lower-case form.
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
    """Return the schema of rows; None if none fits."""
    try:
        return recognise(rows, spec, columns, form, turns=turns)
    except UserError:
        return None


def recognise(rows: Sequence[Row], spec: str, columns: Mapping[str, str], form: str | None, *, turns: bool) -> Schema:
    """Return the schema of rows.

    Args:
        rows: rows of one data set; the first part of a large one.
        spec: name of the data set, for messages.
        columns: the schema's name of a column -> the file's name of it.
        form: the name of the schema; detected if None.
        turns: whether to consider schemas that split plain text into messages.

    Returns:
        The schema.

    Raises:
        UserError: no schema fits, several do, columns are missing, or the schema does not read a name in `columns`.
    """
    have = _columns(rows)
    mapped = _mapped(rows, columns)
    schema = get_schema(form) if form else detect_schema({*have, *columns}, mapped, spec, turns=turns)
    renamed(rows, spec, columns, schema)
    assert schema is not None  # without a schema, `renamed` raises
    unread = [name for name in columns if name not in (*schema.columns, *schema.optional, *TEMPLATE_COLUMNS)]
    if unread:
        raise UserError(f"{spec}: data.columns.{name}: format {schema.name!r} reads no such column" for name in unread)
    return schema


def settle(rows: Sequence[Row], spec: str, columns: Mapping[str, str], form: str | None, *, turns: bool) -> Schema:
    """Return the schema of rows; if it was detected, check that the values fit the meaning of the columns.

    Args:
        rows, spec, columns, form, turns: as for `recognise`.

    Returns:
        The schema.

    Raises:
        UserError: see `recognise` and `check_meaning`.
    """
    schema = recognise(rows, spec, columns, form, turns=turns)
    if form is None and {*PAIR_COLUMNS} <= {*schema.columns}:
        unused = unused_columns(rows, schema, columns)
        check_meaning(_mapped(rows, columns), spec, unused, schema)
    return schema


def renamed(rows: Sequence[Row], spec: str, columns: Mapping[str, str], schema: Schema | None) -> list[Row]:
    """Copy columns to the names that a schema uses.

    Args:
        rows: the rows of the file.
        spec: name of the data set, for messages.
        columns: the schema's name of a column -> the file's name of it.
        schema: the schema of the rows; None if none fits.

    Returns:
        The rows with every column that the schema needs or `columns` names; None in rows that lack it.

    Raises:
        UserError: no schema fits, or one line for each needed column that no row has.
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
    """Return a suggestion of a column with a similar name; empty if there is none.

    Only very similar names count, as opposites have letters in common: lose and chosen, selected and rejected.
    """
    longer = next((column for column in have if name.lower() in column.lower()), "")
    return f"; did you mean {longer!r}?" if longer else did_you_mean(name, have, cutoff=SURELY_MEANT)


def _mapped(rows: Sequence[Row], columns: Mapping[str, str]) -> Sequence[Row]:
    return [{**row, **{ours: row.get(theirs) for ours, theirs in columns.items()}} for row in rows] if columns else rows


def _columns(rows: Iterable[Row]) -> set[str]:
    return {name for row in rows for name in row}


def unused_columns(rows: Sequence[Row], schema: Schema, columns: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns that hold text and that the schema does not read.

    Args:
        rows: the rows of the file.
        schema: the schema of the rows.
        columns: the schema's name of a column -> the file's name of it.

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
