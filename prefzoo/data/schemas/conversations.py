"""Pairs whose prompt is a conversation in its own column: ShareGPT and ms-swift."""

from __future__ import annotations

from typing import Any

from prefzoo.data.examples import Message, Pair
from prefzoo.data.rows import Row
from prefzoo.data.schemas.build import OPTIONAL, build_pair
from prefzoo.data.schemas.messages import as_messages, read_text
from prefzoo.data.schemas.preference_pairs import NO, USER, YES, implicit_prompt
from prefzoo.data.schemas.rankings import FromRow
from prefzoo.data.schemas.registry import schema
from prefzoo.errors import UserError

CONVERSATIONS = (
    "conversations", "conversation", "messages", "trajectory", "dialogue", "dialog", "context_messages",
    "prompt_messages",
)  # fmt: skip


def _detect_sharegpt(columns: frozenset[str]) -> str:
    name = next((name for name in CONVERSATIONS if name in columns), "")
    fits = name and "prompt" not in columns and columns & {"chosen", "rejected"}
    return f"has {name}, and chosen or rejected" if fits else ""


@schema(
    "sharegpt", columns=("chosen", "rejected"), detect=_detect_sharegpt, optional=(*CONVERSATIONS, *OPTIONAL),
    before=("implicit prompt", "orca", "alpaca", "distilabel", "query"),
    example={
        "conversations": [{"from": "human", "value": "What is the capital of France?"}],
        "chosen": {"from": "gpt", "value": "Paris."},
        "rejected": {"from": "gpt", "value": "Lyon."},
    },
)  # fmt: skip
def sharegpt(row: Row, index: int) -> FromRow:
    """Take the conversation as the prompt, chosen and rejected as its answers (ShareGPT, LLaMA-Factory, axolotl)."""
    chosen = read_text(row["chosen"])
    if is_conversation(chosen):
        return implicit_prompt.normalise(row, index)
    name = next((name for name in CONVERSATIONS if row.get(name) is not None), CONVERSATIONS[0])
    return build_pair(row, index, read_conversation(row.get(name), name), chosen, row["rejected"])


@schema(
    "ms-swift", columns=("messages", "rejected_response"), optional=OPTIONAL,
    example={"messages": [USER, YES], "rejected_response": "Lyon."},
)  # fmt: skip
def swift(row: Row, index: int) -> Pair:
    """Take the last message as chosen, those before it as the prompt, and rejected_response as rejected (ms-swift)."""
    *prompt, chosen = read_answered(row["messages"], "messages")
    rejected = read_text(row["rejected_response"])
    if isinstance(rejected, str):
        rejected = as_messages(rejected, "assistant")
    return build_pair(row, index, prompt, [chosen], rejected)


@schema(
    "ms-swift messages", columns=("messages", "rejected_messages"), optional=OPTIONAL,
    before=("ms-swift",), example={"messages": [USER, YES], "rejected_messages": [USER, NO]},
)  # fmt: skip
def swift_messages(row: Row, index: int) -> FromRow:
    """Take messages as the chosen conversation and rejected_messages as the rejected one (ms-swift)."""
    renamed = {**row, "chosen": row["messages"], "rejected": row["rejected_messages"]}
    return implicit_prompt.normalise(renamed, index)


def is_conversation(value: Any) -> bool:
    """Return whether a value is a list of messages that begins with a system or user message."""
    return isinstance(value, list) and bool(value) and value[0].get("role") in ("system", "user")


def read_conversation(value: Any, name: str) -> list[Message]:
    """Return the messages of a cell in the column `name`.

    Raises:
        UserError: the cell is not a list of messages.
    """
    messages = read_text(value)
    if not (isinstance(messages, list) and messages and all(isinstance(m, dict) and "role" in m for m in messages)):
        raise UserError(
            f"{name} is not a list of messages with from and value, or role and content; fix the row, or, if it holds "
            f"the prompt as text, set data.columns.prompt: {name}"
        )
    return messages


def read_answered(value: Any, name: str) -> list[Message]:
    """Return the messages of a cell in the column `name`; the last one is an answer to the others.

    Raises:
        UserError: the cell is not a list of messages, or it does not end with an answer.
    """
    messages = read_conversation(value, name)
    if len(messages) == 1 or messages[-1]["role"] != "assistant":
        raise UserError(f"{name} does not end with an answer of the assistant to a prompt; fix or remove the row")
    return messages
