"""TRL's schemas, detected: pairs with explicit or implicit prompt, or single labelled answers; messages or strings."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from typing import Any

from prefzoo.data.examples import LabelledAnswer, Pair, Text
from prefzoo.data.sources import MAX_FAULTS, Row
from prefzoo.errors import UserError

TURN = "\n\nAssistant:"


def schema(rows: list[Row]) -> str:
    """What kind of data this is, in words."""
    if unpaired(rows):
        return "single labelled answers, " + (
            "plain strings" if isinstance(rows[0]["completion"], str) else "conversational"
        )
    prompt = "explicit prompt" if _explicit(rows) else "implicit prompt"
    kind = "plain strings" if isinstance(rows[0]["chosen"], str) else "conversational"
    return f"{prompt}, {kind}"


def unpaired(rows: list[Row]) -> bool:
    """Whether rows are single answers (`prompt`, `completion`, `label`) and not pairs."""
    return "completion" in rows[0] and "chosen" not in rows[0]


def normalise(rows: list[Row], place: str) -> list[Pair] | list[LabelledAnswer]:
    """Pairs with an explicit prompt, or single answers.

    Raises:
        UserError: `place: row n:` lines (rows from 1) for empty or equal answers and for wrong types, at most 20.
    """
    faults: list[str] = []
    pairs: list[Pair] = []
    answers: list[LabelledAnswer] = []
    explicit, single = _explicit(rows), unpaired(rows)
    for number, row in enumerate(rows, 1):
        fault = _fault_of_answer(row) if single else _fault(row, explicit)
        if not fault and single:
            answers.append(_answer(row, number - 1))
        elif not fault:
            pair = _pair(row, number - 1, explicit)
            if _filled(pair.chosen) and _filled(pair.rejected):
                pairs.append(pair)
            else:
                fault = "one answer is only the beginning of the other; add a prompt column, or remove the row"
        if fault:
            faults.append(f"{place}: row {number}: {fault}")
    if faults:
        more = [f"{place}: and {len(faults) - MAX_FAULTS} more rows like these"] if len(faults) > MAX_FAULTS else []
        raise UserError(faults[:MAX_FAULTS] + more)
    return answers if single else pairs


def _explicit(rows: list[Row]) -> bool:
    return any("prompt" in r for r in rows)


def _filled(text: Text) -> bool:
    return bool(text.strip()) if isinstance(text, str) else bool(text) and bool(text[-1]["content"].strip())


def _fault(row: Row, explicit: bool) -> str:
    for name in ("prompt", "chosen", "rejected") if explicit else ("chosen", "rejected"):
        wrong = _wrong_type(row.get(name))
        if wrong:
            return f"{name} {wrong}"
        if name != "prompt" and not _filled(row[name]):
            return f"{name} is empty; remove the row"
    chosen, rejected = row["chosen"], row["rejected"]
    if type(chosen) is not type(rejected):
        return "chosen and rejected are of different types; both must be text, or both lists of messages"
    if isinstance(chosen, str) and explicit and not isinstance(row["prompt"], str):
        return "prompt is a list of messages, but chosen and rejected are text; write all three alike"
    for name in ("chosen", "rejected"):
        if not isinstance(row[name], str) and row[name][-1]["role"] != "assistant":
            return f"{name} ends with a message of {row[name][-1]['role']!r}; the last must be the assistant's"
    return "chosen equals rejected; remove the row" if chosen == rejected else ""


def _fault_of_answer(row: Row) -> str:
    for name in ("prompt", "completion"):
        wrong = _wrong_type(row.get(name))
        if wrong:
            return f"{name} {wrong}"
    if not _filled(row["completion"]):
        return "completion is empty; remove the row"
    if not isinstance(row.get("label"), bool):
        return f"label is {row.get('label')!r}; it must be true (a good answer) or false"
    if type(row["prompt"]) is not type(row["completion"]):
        return "prompt and completion are of different types; both must be text, or both lists of messages"
    return ""


def _answer(row: Row, number: int) -> LabelledAnswer:
    return LabelledAnswer(row["prompt"], row["completion"], row["label"], number)


def _scores(row: Row) -> tuple[float, float] | None:
    found = [row.get(f"score_{side}") for side in ("chosen", "rejected")]
    numbers = [float(v) for v in found if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    return (numbers[0], numbers[1]) if len(numbers) == len(found) else None


def _wrong_type(value: Any) -> str:
    if value is None:
        return "is missing; fill it, or remove the row"
    if not isinstance(value, (str, list)):
        return f"is {type(value).__name__}, not text or a list of messages"
    messages = value if isinstance(value, list) else []
    if all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    ):
        return ""
    return "is a list of something other than messages with role and content, both text"


def _pair(row: Row, number: int, explicit: bool) -> Pair:
    return replace(_split(row, number, explicit), scores=_scores(row))


def _split(row: Row, number: int, explicit: bool) -> Pair:
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str):
        cut = 0 if explicit else _common_text(chosen, rejected)
        return Pair(row["prompt"] if explicit else chosen[:cut], chosen[cut:], rejected[cut:], number)
    cut = _common_messages(chosen, rejected)
    if not explicit:
        return Pair(chosen[:cut], chosen[cut:], rejected[cut:], number)
    if isinstance(row["prompt"], str) and cut:  # the text repeats what the messages say (as in UltraFeedback's files)
        return Pair(chosen[:cut], chosen[cut:], rejected[cut:], number)
    return Pair(row["prompt"], chosen, rejected, number)


def _common_text(chosen: str, rejected: str) -> int:
    """Length of the shared prompt: up to the last turn marker both have, else up to the last shared word boundary.

    Blanks at the boundary go to the answer: byte-level tokenizers join a blank to the word behind it.
    """
    same = len(os.path.commonprefix([chosen, rejected]))
    turn = chosen.rfind(TURN, 0, same)
    if turn >= 0:
        return turn + len(TURN)
    words = re.match(r"(?s).*(?=\s)", chosen[:same])
    return len(words.group().rstrip()) if words else 0


def _common_messages(chosen: list[Any], rejected: list[Any]) -> int:
    shortest = min(len(chosen), len(rejected)) - 1  # each keeps at least one message as its answer
    return next((i for i in range(shortest) if chosen[i] != rejected[i]), shortest)
