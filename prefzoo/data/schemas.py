"""TRL's schemas of paired preferences, detected: explicit or implicit prompt, conversational or plain strings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefzoo.data.sources import Row
from prefzoo.errors import UserError

Text = str | list[dict[str, str]]
TURN = "\n\nAssistant:"


@dataclass(frozen=True)
class Pair:
    """One preference: `chosen` and `rejected` are answers to `prompt`; strings, or lists of role/content messages."""

    prompt: Text
    chosen: Text
    rejected: Text
    row: int


def schema(rows: list[Row]) -> str:
    """What kind of data this is, in words."""
    prompt = "explicit prompt" if "prompt" in rows[0] else "implicit prompt"
    kind = "plain strings" if isinstance(rows[0]["chosen"], str) else "conversational"
    return f"{prompt}, {kind}"


def normalise(rows: list[Row], place: str) -> list[Pair]:
    """Pairs with an explicit prompt.

    Raises:
        UserError: `place:row:` lines (rows from 1) for empty or equal answers and for wrong types, at most 20.
    """
    pairs, faults = [], []
    for number, row in enumerate(rows, 1):
        fault = _fault(row)
        if fault:
            faults.append(f"{place}: row {number}: {fault}")
        else:
            pairs.append(_pair(row, number - 1))
    if faults:
        more = [f"{place}: and {len(faults) - 20} more rows like these"] if len(faults) > 20 else []  # noqa: PLR2004
        raise UserError(faults[:20] + more)
    return pairs


def _fault(row: Row) -> str:
    for name in ("prompt", "chosen", "rejected"):
        value = row.get(name)
        if name == "prompt" and name not in row:
            continue
        if not isinstance(value, (str, list)):
            return f"{name} is {type(value).__name__}, not text or a list of messages"
        if isinstance(value, list) and not all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in value):
            return f"{name} is a list of something other than messages with role and content"
        if name != "prompt" and not (value.strip() if isinstance(value, str) else value):
            return f"{name} is empty; remove the row"
    if row["chosen"] == row["rejected"]:
        return "chosen equals rejected; remove the row"
    return "" if isinstance(row["chosen"], type(row["rejected"])) else "chosen and rejected are of different types"


def _pair(row: Row, number: int) -> Pair:
    chosen, rejected = row["chosen"], row["rejected"]
    if "prompt" in row:
        return Pair(row["prompt"], chosen, rejected, number)
    cut = _common_text(chosen, rejected) if isinstance(chosen, str) else _common_messages(chosen, rejected)
    return Pair(chosen[:cut], chosen[cut:], rejected[cut:], number)


def _common_text(chosen: str, rejected: str) -> int:
    """Length of the shared prompt: up to the last turn marker both have, else up to the last shared word boundary."""
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    same = min(len(chosen), len(rejected)) if same is None else same
    turn = chosen.rfind(TURN, 0, same)
    if turn >= 0:
        return turn + len(TURN)
    return chosen.rfind(" ", 0, same) + 1


def _common_messages(chosen: list[Any], rejected: list[Any]) -> int:
    shortest = min(len(chosen), len(rejected)) - 1  # each keeps at least one message as its answer
    return next((i for i in range(shortest) if chosen[i] != rejected[i]), shortest)
