"""Build pairs and labelled answers from the cells of a row. All built-in schemas use these functions."""

from __future__ import annotations

import math
from typing import Any

from prefzoo.data.examples import LabelledAnswer, Message, Pair, Text
from prefzoo.data.rows import Row
from prefzoo.data.schemas.checks import check_example
from prefzoo.data.schemas.messages import as_messages, parse_json, read_message, read_text, same_message, same_text
from prefzoo.data.schemas.notes import note
from prefzoo.data.schemas.shared_prompt import leave_out_repeated
from prefzoo.errors import UserError

SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
SCORE_COLUMNS = (
    ("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"), ("rating_chosen", "rating_rejected"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)  # fmt: skip
TIE = "tie"
REF_REWARDS = "ref_rewards"  # a list with the rewards of the reference's own answers to the prompt
OPTIONAL = (
    *(name for names in SCORE_COLUMNS for name in names),
    TIE,
    REF_REWARDS,
    *SYSTEM_COLUMNS,
)  # columns that every pair reads


def build_pair(
    row: Row, index: int, prompt: Any, chosen: Any, rejected: Any, scores: tuple[float, float] | None = None
) -> Pair:
    """Build a pair from cells: text, messages in any spelling, or whole conversations that repeat the prompt.

    Args:
        row: the row, whose system message, scores, `tie` and `ref_rewards` are read.
        index: index of the row.
        prompt, chosen, rejected: the cells.
        scores: the scores of chosen and rejected; if None, the row's.

    Returns:
        The pair. Cells that are neither text nor messages are left unchanged, for `check_example` to refuse.

    Raises:
        UserError: a message has a part that is not text, the answers begin with another prompt, or a cell of the row
            (system message, `tie`, `ref_rewards`) is invalid.
    """
    prompt, chosen, rejected = read_text(prompt), read_text(chosen), read_text(rejected)
    if _are_messages(chosen, rejected) and _is_text(prompt):
        check_example(Pair(prompt, chosen, rejected, index), whole=True)
        prompt, chosen, rejected = leave_out_repeated(prompt, chosen, rejected, row)
    elif isinstance(prompt, list) and isinstance(chosen, str) and isinstance(rejected, str):
        chosen, rejected = as_messages(chosen, "assistant"), as_messages(rejected, "assistant")
    prompt = _without_answer(prompt, chosen)
    system = read_system(row)
    if system and _is_text(prompt) and all(map(_is_text, (chosen, rejected))):
        prompt = with_system(system, prompt)
        chosen, rejected = as_messages(chosen, "assistant"), as_messages(rejected, "assistant")
    scores = _tied(row, scores or read_scores(row))
    return Pair(prompt, chosen, rejected, index, scores, quantiles=read_quantiles(row, scores))


def _without_answer(prompt: Any, chosen: Any) -> Any:
    """Remove the chosen answer from the end of a prompt; some files have it in both places.

    Raises:
        UserError: the prompt ends with another answer.
    """
    if not (_are_messages(prompt, chosen) and prompt[-1].get("role") == "assistant" == chosen[0].get("role")):
        return prompt
    if same_message(prompt[-1], chosen[0]):
        note("whose prompt ended with the chosen answer, left out there")
        return prompt[:-1]
    raise UserError(
        "the prompt ends with a message of 'assistant' that is not chosen; end the prompt with the user's message"
    )


def build_answer(row: Row, index: int, prompt: Any, completion: Any, label: Any) -> LabelledAnswer:
    """Build a labelled answer from cells: text or messages in any spelling.

    Args:
        row: the row, whose system message is read.
        index: index of the row.
        prompt, completion: the cells.
        label: whether the completion is desirable.

    Returns:
        The labelled answer. Cells that are neither text nor messages are left unchanged, for `check_example` to refuse.

    Raises:
        UserError: a message has a part that is not text, or the row's system message is invalid.
    """
    prompt, completion = read_text(prompt), read_text(completion)
    system = read_system(row)
    if _is_text(prompt) and _is_text(completion) and (system or type(prompt) is not type(completion)):
        prompt, completion = with_system(system, prompt), as_messages(completion, "assistant")
    return LabelledAnswer(prompt, completion, label, index)


def with_system(system: str, prompt: Text) -> list[Message]:
    """Return a prompt as messages, with the system message first unless that is blank.

    Raises:
        UserError: the prompt begins with another system message.
    """
    messages = as_messages(prompt, "user")
    if not system.strip():
        return messages
    if messages and messages[0]["role"] == "system":
        if not same_text(messages[0]["content"], system):
            raise UserError("the system column differs from the system message of the prompt; remove one of them")
        return messages
    return [{"role": "system", "content": system}, *messages]


def read_system(row: Row) -> str:
    """Return a row's system message; empty if it has none.

    Raises:
        UserError: the cell is neither text, nor parts of text, nor a message.
    """
    name = next((name for name in SYSTEM_COLUMNS if row.get(name)), "")
    system = read_message(row[name]) if name else ""
    if system is None:
        raise UserError(f"{name} is {type(row[name]).__name__}, not the text of a system message; fix or remove it")
    return system if system.strip() else ""


def read_number(value: Any) -> float | None:
    """Return a cell as a finite number, parsing text as in CSV files; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_scores(row: Row) -> tuple[float, float] | None:
    """Return a row's scores of chosen and rejected; None unless both are finite numbers."""
    for names in SCORE_COLUMNS:
        chosen, rejected = (read_number(row.get(name)) for name in names)
        if chosen is not None and rejected is not None:
            return chosen, rejected
    return None


def _tied(row: Row, scores: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the scores of chosen and rejected after applying the row's column `tie`.

    If `tie` is true, both scores become their mean, or 0 if there are none. If it is false, they are unchanged, or 1
    and 0 if there are none. Without a value, they are unchanged.

    Raises:
        UserError: the cell is neither true nor false, or it is false and both scores are equal.
    """
    tie = row.get(TIE)
    if _is_blank(tie):
        return scores
    if tie not in (True, False):
        raise UserError(f"{TIE} is {tie!r}; it must be true (neither answer is better) or false")
    if scores is None:
        return (0.0, 0.0) if tie else (1.0, 0.0)
    if not tie and scores[0] == scores[1]:
        raise UserError(f"{TIE} is false, but both scores are {scores[0]:g}, which makes a tie; correct one of them")
    return (sum(scores) / 2,) * 2 if tie else scores


def read_quantiles(row: Row, scores: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the share of a row's `ref_rewards` that is at most the score, for chosen and rejected.

    Return None if the row has no `ref_rewards`.

    Raises:
        UserError: the cell is not a list of finite numbers, or the row has no scores.
    """
    listed = parse_json(row.get(REF_REWARDS))
    if _is_blank(listed):
        return None
    rewards = [read_number(one) for one in listed] if isinstance(listed, list) else []
    if not rewards or None in rewards:
        raise UserError(f"{REF_REWARDS} is {listed!r:.60}; it must be a list of numbers, like [0.2, -1.5, 3]")
    if scores is None:
        raise UserError(
            f"{REF_REWARDS} is set, but the row has no scores to rank among them; fill score_chosen and score_rejected"
        )
    chosen, rejected = (sum(one <= score for one in rewards if one is not None) / len(rewards) for score in scores)
    return chosen, rejected


def read_tools(row: Row) -> list[dict[str, Any]] | None:
    """Return a row's tools as JSON schemas; None if it has none.

    Raises:
        UserError: the cell is not a list of JSON objects.
    """
    value = row.get("tools")
    if _is_blank(value):
        return None
    listed = parse_json(value)
    if isinstance(listed, list):
        listed = [parse_json(tool) for tool in listed]
    if listed == []:
        return None
    if not (isinstance(listed, list) and all(isinstance(tool, dict) for tool in listed)):
        raise UserError("tools is not a list of JSON objects, one for each function; fix or remove it")
    return listed


def read_template(row: Row) -> dict[str, Any] | None:
    """Return a row's variables for the chat template; None if it has none.

    Raises:
        UserError: the cell is not a JSON object.
    """
    value = row.get("chat_template_kwargs")
    if _is_blank(value):
        return None
    given = parse_json(value)
    if given == {}:
        return None
    if not isinstance(given, dict):
        raise UserError('chat_template_kwargs is not a JSON object, like {"enable_thinking": false}; fix or remove it')
    return {name: v for name, v in given.items() if v is not None}


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(m, dict) for m in value))


def _are_messages(*values: Any) -> bool:
    return all(isinstance(value, list) and value and all(isinstance(m, dict) for m in value) for value in values)
