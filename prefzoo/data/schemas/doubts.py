"""Detect rows whose columns have the names of a schema, but whose values mean something else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from os.path import commonprefix
from typing import Any

from prefzoo.data.rows import Row
from prefzoo.data.schemas.messages import parse_json
from prefzoo.data.schemas.preference_pairs import PAIR_COLUMNS
from prefzoo.data.schemas.registry import Schema
from prefzoo.data.schemas.shared_prompt import FEWEST as FEWEST_OF_PROMPT
from prefzoo.data.schemas.shared_prompt import TURN, rough_tokens
from prefzoo.errors import UserError

SAMPLE = 100  # first rows that are read
FEWEST = 3  # mean number of words from which a column may hold prompts
IMPLICIT = "implicit prompt"
PROMPTS = ("prompt", "question", "instruction", "input")
LONGEST = 20  # most characters of a cell that may name a column
SHOWN = 40  # most characters of a text in an error


def check_meaning(rows: Sequence[Row], spec: str, unused: Iterable[str], schema: Schema) -> None:
    """Check that chosen and rejected hold answers, and that no unread column seems to hold their prompts.

    Args:
        rows: rows of one data set, with the columns of their schema.
        spec: name of the data set, for messages.
        unused: the columns that hold text and that the schema does not read.
        schema: the schema of the rows.

    Raises:
        UserError: chosen and rejected hold names of other columns, or lists written as text; an unread column seems to
            hold the prompts; or all prompts are the same while an unread column differs from row to row.
    """
    sample, others = rows[:SAMPLE], list(unused)
    if others and all(_names_columns(row, others) for row in sample):
        chosen, rejected = (sample[0][name] for name in PAIR_COLUMNS)
        raise UserError(
            f"{spec}: chosen and rejected name other columns, like {chosen!r} and {rejected!r} in row 1, where the "
            "answers themselves are needed; write the texts of those columns into them"
        )
    if all(_is_list_in_text(row.get(name)) for row in sample for name in PAIR_COLUMNS):
        raise UserError(
            f"{spec}: chosen and rejected are lists written as text, like {str(sample[0]['chosen'])[:SHOWN]!r} in row "
            f"1; write the answers themselves, or, if the brackets are the answers, set data.format: {schema.name}"
        )
    column = max(others, key=lambda name: _words(sample, name), default="")
    if column and _words(sample, column) >= FEWEST:
        _check_same_prompts(sample, spec, column, schema)
    implicit = schema.name == IMPLICIT and column
    if not (implicit and all(isinstance(row.get(name), str) for row in sample for name in PAIR_COLUMNS)):
        return
    begins = [commonprefix([row["chosen"], row["rejected"]]) for row in sample]
    shared = sum(len(begin.split()) for begin in begins) / len(sample)
    if not any(rough_tokens(begin) >= FEWEST_OF_PROMPT for begin in begins):
        return  # the schema refuses each row: no common beginning is long enough
    if TURN not in begins[0] and _words(sample, column) > max(FEWEST, shared):
        raise UserError(
            f"{spec}: there is no prompt column, so the prompt would be the common beginning of chosen and rejected "
            f"({begins[0][:SHOWN]!r} in row 1), but {column} seems to hold it; set data.columns.prompt: {column}, or, "
            "if it does not hold the prompt, data.format: implicit prompt"
        )


def _check_same_prompts(rows: Sequence[Row], spec: str, column: str, schema: Schema) -> None:
    """Refuse rows that all have the same prompt while an unread column differs from row to row.

    Raises:
        UserError: that is the case.
    """
    name = next((name for name in PROMPTS if name in schema.columns), "")
    prompts, others = {_text(row.get(name)) for row in rows}, {_text(row.get(column)) for row in rows}
    if name and len(rows) >= FEWEST and len(prompts) == 1 and len(others) == len(rows):
        raise UserError(
            f"{spec}: every {name} is the same ({prompts.pop()[:SHOWN]!r}), and {column}, which is not read, differs "
            f"from row to row; join the two in one column, or name the prompt's column, like data.columns.{name}: "
            f"{column}; if this is intended, set data.format: {schema.name}"
        )


def _names_columns(row: Row, others: Sequence[str]) -> bool:
    """Return whether a row's chosen and rejected are names of two other columns, or the last words of such names."""
    values = [str(row.get(name) or "").strip().lower() for name in PAIR_COLUMNS]
    if any(not value or len(value) > LONGEST for value in values) or values[0] == values[1]:
        return False
    names = {one for name in others for one in (name.lower(), re.split(r"[_\s-]", name.lower())[-1])}
    return {*values} <= names


def _is_list_in_text(value: Any) -> bool:
    """Return whether a cell is a list of texts, written as text by Python or JSON. Exported tables have such cells."""
    if not (isinstance(value, str) and value.strip()[:2] in ("['", '["')):
        return False
    listed = parse_json(value)
    return isinstance(listed, list) and all(isinstance(one, str) for one in listed)


def _words(rows: Sequence[Row], name: str) -> float:
    """Return the mean number of words in a column."""
    return sum(len(_text(row.get(name)).split()) for row in rows) / len(rows)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(one) for one in value)
    if isinstance(value, dict):
        return _text(value.get("content", value.get("value")))
    return value if isinstance(value, str) else ""
