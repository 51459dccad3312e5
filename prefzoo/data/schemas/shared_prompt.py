"""Split prompt and answers if both answers begin with the prompt, whether or not a prompt column repeats it."""

from __future__ import annotations

import os
import re
from typing import Any

from prefzoo.data.examples import Message, Text
from prefzoo.data.rows import Row
from prefzoo.data.schemas.messages import as_messages, common_messages, same_message
from prefzoo.data.schemas.notes import note
from prefzoo.errors import UserError

TURN = "\n\nAssistant:"
FEWEST = 4  # fewest rough tokens that a common beginning needs to be a prompt
LONGEST = 40  # most characters of a text in an error
JOINED = "whose two prompts differ in white space, joined"
REPEATED = "whose answers repeat the prompt, which is taken once"
Split = tuple[Text, Text, Text]


def split_conversations(chosen: list[Message], rejected: list[Message], row: Row) -> Split:
    """Split two conversations into their common first messages, which are the prompt, and the rest of each.

    Args:
        chosen, rejected: whole conversations.
        row: their row, to find a column that may hold the prompt for the error message.

    Returns:
        Prompt, chosen and rejected. If the prompts differ in white space only, that of `chosen` is taken.

    Raises:
        UserError: the prompts differ, or there is no prompt.
    """
    cut = min(common_messages(chosen, rejected), len(chosen) - 1, len(rejected) - 1)
    first, second = chosen[cut], rejected[cut]
    if (first["role"], second["role"]) != ("assistant", "assistant"):
        raise UserError(
            f"chosen and rejected have different prompts: message {cut + 1} is {_shown(first)} against "
            f"{_shown(second)}; make them alike, or remove the row"
        )
    if not cut:
        raise UserError(f"chosen and rejected begin with their answers, without a prompt; {prompt_cure(row)}")
    if chosen[:cut] != rejected[:cut]:
        note(JOINED)
    return chosen[:cut], chosen[cut:], rejected[cut:]


def split_texts(chosen: str, rejected: str, row: Row) -> Split:
    """Split two texts after the last `Assistant:` in their common beginning, or else after their last common word.

    Args:
        chosen, rejected: texts that begin with the same prompt.
        row: their row, to find a column that may hold the prompt for the error message.

    Returns:
        Prompt, chosen and rejected. White space at the boundary goes to the answers, because byte-level tokenizers join
        a space to the word after it.

    Raises:
        UserError: the common beginning is too short to be a prompt.
    """
    same = len(os.path.commonprefix([chosen, rejected]))
    turn = chosen.rfind(TURN, 0, same)
    ends = (turn + len(TURN),) * 2 if turn >= 0 else _common_words(chosen, rejected)
    prompt = chosen[: ends[0]]
    if rough_tokens(prompt) < FEWEST:
        begin = f"only {prompt.strip()!r}" if prompt.strip() else "nothing"
        raise UserError(
            f"there is no prompt: chosen and rejected have {begin} in common at their beginning; {prompt_cure(row)}"
        )
    if prompt != rejected[: ends[1]]:
        note(JOINED)
    return prompt, chosen[ends[0] :], rejected[ends[1] :]


def leave_out_repeated(prompt: Text, chosen: list[Message], rejected: list[Message], row: Row) -> Split:
    """Remove the prompt from answers that are whole conversations.

    Args:
        prompt: text, or messages.
        chosen, rejected: answers, or whole conversations.
        row: their row, to find a column that may hold the prompt for the error message.

    Returns:
        Prompt, chosen and rejected.

    Raises:
        UserError: the conversations do not begin with the prompt.
    """
    if chosen[0]["role"] == "assistant" and rejected[0]["role"] == "assistant":
        return prompt, chosen, rejected
    shared, first, second = split_conversations(chosen, rejected, row)
    own = as_messages(shared, "user")
    whole = _merged(prompt, own)
    if whole is None:
        begin = as_messages(prompt, "user")[-1]["content"]
        raise UserError(
            f"the prompt ({_cut(begin)}) is not what chosen and rejected begin with ({_cut(own[-1]['content'])}); "
            "make them alike, or read only the messages: data.format: implicit prompt"
        )
    note(REPEATED)
    return whole, first, second


def rough_tokens(text: str) -> int:
    """Estimate the number of tokens of a text: count words, numbers and other characters."""
    return len(re.findall(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]", text))


def _merged(prompt: Text, shared: list[Message]) -> list[Message] | None:
    """Merge a prompt with the first messages of its conversations, each message once; None if they do not match."""
    if isinstance(prompt, str):
        flat, parts = " ".join(prompt.split()), [" ".join(m["content"].split()) for m in shared]
        return shared if not flat or any(p and (p in flat or flat in p) for p in parts) else None
    if _alike(shared[-len(prompt) :], prompt):
        return shared
    longest = min(len(prompt), len(shared))
    overlap = next((k for k in range(longest, 0, -1) if _alike(prompt[-k:], shared[:k])), 0)
    return [*prompt, *shared[overlap:]] if overlap else None


def _alike(first: list[Message], second: list[Message]) -> bool:
    return len(first) == len(second) and all(same_message(a, b) for a, b in zip(first, second, strict=True))


def _common_words(chosen: str, rejected: str) -> tuple[int, int]:
    """Return where the common first words end in each text. The last word of a text is never counted as common."""
    first, second = list(re.finditer(r"\S+", chosen)), list(re.finditer(r"\S+", rejected))
    most = max(min(len(first), len(second)) - 1, 0)
    count = next((i for i in range(most) if first[i].group() != second[i].group()), most)
    return (first[count - 1].end(), second[count - 1].end()) if count else (0, 0)


def prompt_cure(row: Row) -> str:
    """Return the cure for a missing prompt, with the column that probably holds the prompt if there is one."""
    known = {"chosen", "rejected", "prompt"}
    texts = [
        name
        for name, value in row.items()
        if name not in known and ((isinstance(value, str) and value.strip()) or _are_messages(value))
    ]
    if texts:
        longest = max(texts, key=lambda name: len(str(row[name])))
        return f"name the column that holds it, like data.columns.prompt: {longest}"
    return "add a prompt column, or remove the row"


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, dict) and "content" in m for m in value)


def _shown(message: Message) -> str:
    return f"{message['role']}'s {_cut(message['content'])}"


def _cut(text: Any) -> str:
    shown = str(text)
    return repr(shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}...")
