"""Pairs of answers, chosen and rejected: with a prompt of their own, or with one that both begin with."""

from __future__ import annotations

import math
import os
import re
from typing import Any

from prefzoo.data.examples import Pair
from prefzoo.data.rows import Row
from prefzoo.data.schemas.checks import check_example, is_filled
from prefzoo.data.schemas.registry import schema
from prefzoo.errors import UserError

TURN = "\n\nAssistant:"
PAIR_COLUMNS = ("chosen", "rejected")
SCORE_COLUMNS = ("score_chosen", "score_rejected")


def _detect_explicit(columns: frozenset[str]) -> str:
    return "has a prompt, and chosen or rejected" if "prompt" in columns and columns & {*PAIR_COLUMNS} else ""


def _detect_implicit(columns: frozenset[str]) -> str:
    return "has chosen or rejected, and no prompt" if "prompt" not in columns and columns & {*PAIR_COLUMNS} else ""


@schema("explicit prompt", columns=("prompt", *PAIR_COLUMNS), detect=_detect_explicit, optional=SCORE_COLUMNS)
def explicit_prompt(row: Row, index: int) -> Pair:
    """Take the three columns as they are, but leave out a text prompt that the messages repeat."""
    pair = Pair(row["prompt"], row["chosen"], row["rejected"], index, read_scores(row))
    if isinstance(pair.prompt, str) and isinstance(pair.chosen, list):  # as in UltraFeedback's files
        check_example(pair)
        if _common_messages(row["chosen"], row["rejected"]):
            return _without_shared_prompt(row, index)
    return pair


@schema("implicit prompt", columns=PAIR_COLUMNS, detect=_detect_implicit, optional=SCORE_COLUMNS)
def implicit_prompt(row: Row, index: int) -> Pair:
    """Split the prompt off both answers.

    Raises:
        UserError: the row is broken, or nothing is left of one answer without the prompt.
    """
    empty: Any = "" if isinstance(row["chosen"], str) else []
    check_example(Pair(empty, row["chosen"], row["rejected"], index))
    pair = _without_shared_prompt(row, index)
    if not (is_filled(pair.chosen) and is_filled(pair.rejected)):
        raise UserError("one answer is only the beginning of the other; add a prompt column, or remove the row")
    return pair


def read_scores(row: Row) -> tuple[float, float] | None:
    """Return a row's `score_chosen` and `score_rejected`; None unless both are finite numbers."""
    values = [row.get(name) for name in SCORE_COLUMNS]
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    return (numbers[0], numbers[1]) if len(numbers) == len(values) else None


def _without_shared_prompt(row: Row, index: int) -> Pair:
    chosen, rejected = row["chosen"], row["rejected"]
    cut = _common_text(chosen, rejected) if isinstance(chosen, str) else _common_messages(chosen, rejected)
    return Pair(chosen[:cut], chosen[cut:], rejected[cut:], index, read_scores(row))


def _common_text(chosen: str, rejected: str) -> int:
    """Return the length of the shared prompt, up to the last turn marker of both, else to the last word boundary.

    Blanks at the boundary go to the answer: byte-level tokenizers join a blank to the word after it.
    """
    same = len(os.path.commonprefix([chosen, rejected]))
    turn = chosen.rfind(TURN, 0, same)
    if turn >= 0:
        return turn + len(TURN)
    words = re.match(r"(?s).*(?=\s)", chosen[:same])
    return len(words.group().rstrip()) if words else 0


def _common_messages(chosen: list[Any], rejected: list[Any]) -> int:
    """Return how many leading messages both have in common; each keeps at least one as its answer."""
    shortest = min(len(chosen), len(rejected)) - 1
    return next((i for i in range(shortest) if chosen[i] != rejected[i]), shortest)
