"""Rows that fit a schema by the names of their columns, and mean something else by their values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from os.path import commonprefix
from typing import Any

from prefzoo.data.rows import Row
from prefzoo.data.schemas.preference_pairs import PAIR_COLUMNS
from prefzoo.data.schemas.shared_prompt import FEWEST as FEWEST_OF_PROMPT
from prefzoo.data.schemas.shared_prompt import TURN, rough_tokens
from prefzoo.errors import UserError

SAMPLE = 100  # rows that are looked at
FEWEST = 3  # words of a column that may hold prompts
LONGEST = 20  # characters of a name
SHOWN = 40  # characters of a text that a message shows


def check_meaning(rows: Sequence[Row], spec: str, unused: Iterable[str], *, implicit: bool) -> None:
    """Check that chosen and rejected are answers, and that another column does not hold their prompt.

    Args:
        rows: of one data set, with the columns of their schema.
        spec: name of the data set, for messages.
        unused: the columns that hold text and that the schema does not read.
        implicit: whether the prompt is what both answers begin with.

    Raises:
        UserError: they name columns, or a column seems to hold the prompt.
    """
    sample, others = rows[:SAMPLE], list(unused)
    if others and all(_names_columns(row, others) for row in sample):
        chosen, rejected = (sample[0][name] for name in PAIR_COLUMNS)
        raise UserError(
            f"{spec}: chosen and rejected name other columns, like {chosen!r} and {rejected!r} in row 1, where the "
            "answers themselves are needed; write the texts of those columns into them"
        )
    column = max(others, key=lambda name: _words(sample, name), default="")
    if not (implicit and column and all(isinstance(row.get(name), str) for row in sample for name in PAIR_COLUMNS)):
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


def _names_columns(row: Row, others: Sequence[str]) -> bool:
    """Return whether a row's chosen and rejected are the names of two other columns, or the ends of such names."""
    values = [str(row.get(name) or "").strip().lower() for name in PAIR_COLUMNS]
    if any(not value or len(value) > LONGEST for value in values) or values[0] == values[1]:
        return False
    names = {one for name in others for one in (name.lower(), re.split(r"[_\s-]", name.lower())[-1])}
    return {*values} <= names


def _words(rows: Sequence[Row], name: str) -> float:
    """Return how many words a column holds in the mean."""
    return sum(len(_text(row.get(name)).split()) for row in rows) / len(rows)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(one) for one in value)
    if isinstance(value, dict):
        return _text(value.get("content", value.get("value")))
    return value if isinstance(value, str) else ""
