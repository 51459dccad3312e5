"""Rows that fit a schema by the names of their columns, and mean something else by their values."""

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

SAMPLE = 100  # rows that are looked at
FEWEST = 3  # words of a column that may hold prompts
IMPLICIT = "implicit prompt"
PROMPTS = ("prompt", "question", "instruction", "input")
LONGEST = 20  # characters of a name
SHOWN = 40  # characters of a text that a message shows


def check_meaning(rows: Sequence[Row], spec: str, unused: Iterable[str], schema: Schema) -> None:
    """Check that chosen and rejected are answers, and that another column does not hold their prompt.

    Args:
        rows: of one data set, with the columns of their schema.
        spec: name of the data set, for messages.
        unused: the columns that hold text and that the schema does not read.
        schema: of the rows.

    Raises:
        UserError: they name columns, or are lists written as text, or a column seems to hold the prompt, or all prompts
            are the same beside a column that is not read and differs.
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
            f"1; write the answers themselves, or, if the brackets are the answers: data.format: {schema.name}"
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
        return  # each row says so
    if TURN not in begins[0] and _words(sample, column) > max(FEWEST, shared):
        raise UserError(
            f"{spec}: there is no prompt column; what chosen and rejected both begin with ({begins[0][:SHOWN]!r} in "
            f"row 1) would be the prompt, but {column} seems to hold it: data.columns.prompt: {column}; if it does "
            "not: data.format: implicit prompt"
        )


def _check_same_prompts(rows: Sequence[Row], spec: str, column: str, schema: Schema) -> None:
    """Check that not every prompt is the same, while a column that is not read differs from row to row.

    Raises:
        UserError: it is so.
    """
    name = next((name for name in PROMPTS if name in schema.columns), "")
    prompts, others = {_text(row.get(name)) for row in rows}, {_text(row.get(column)) for row in rows}
    if name and len(rows) >= FEWEST and len(prompts) == 1 and len(others) == len(rows):
        raise UserError(
            f"{spec}: every {name} is the same ({prompts.pop()[:SHOWN]!r}), and {column}, which is not read, differs "
            f"from row to row; join the two in one column, or name the prompt's, like data.columns.{name}: {column}; "
            f"if it is meant so: data.format: {schema.name}"
        )


def _names_columns(row: Row, others: Sequence[str]) -> bool:
    """Return whether a row's chosen and rejected are the names of two other columns, or the ends of such names."""
    values = [str(row.get(name) or "").strip().lower() for name in PAIR_COLUMNS]
    if any(not value or len(value) > LONGEST for value in values) or values[0] == values[1]:
        return False
    names = {one for name in others for one in (name.lower(), re.split(r"[_\s-]", name.lower())[-1])}
    return {*values} <= names


def _is_list_in_text(value: Any) -> bool:
    """Return whether a text is a list of texts as Python or JSON writes it, which tables make of lists."""
    if not (isinstance(value, str) and value.strip()[:2] in ("['", '["')):
        return False
    listed = parse_json(value)
    return isinstance(listed, list) and all(isinstance(one, str) for one in listed)


def _words(rows: Sequence[Row], name: str) -> float:
    """Return how many words a column holds in the mean."""
    return sum(len(_text(row.get(name)).split()) for row in rows) / len(rows)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(one) for one in value)
    if isinstance(value, dict):
        return _text(value.get("content", value.get("value")))
    return value if isinstance(value, str) else ""
