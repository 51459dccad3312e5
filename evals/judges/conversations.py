"""Prompts that are conversations: as messages for models, as one text for judges, tables and files."""

from __future__ import annotations

import json
from collections.abc import Sequence

from prefzoo.data.chat import as_messages, calls_of
from prefzoo.data.examples import Message, Text

PLAIN = {"role", "content"}  # fields of a message that is nothing but text


def as_text(prompt: Text) -> str:
    """Return a prompt as one text: a string as it is, messages below their roles in brackets."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"[{message['role']}]\n{_said(message)}" for message in prompt)


def simplified(prompt: Text) -> Text:
    """Return one message of the user as its text, which every chat template writes alike; anything else as it is."""
    if isinstance(prompt, str) or len(prompt) != 1 or prompt[0]["role"] != "user" or not {*prompt[0]} <= PLAIN:
        return prompt
    return str(prompt[0]["content"])


def with_answer(prompt: Text, answer: str) -> list[Message]:
    """Return the messages of a prompt with an answer of the assistant after them."""
    return [*as_messages("user", prompt), {"role": "assistant", "content": answer}]


def as_answer(prompt: Text, answer: str) -> Text:
    """Return an answer in the form of its prompt: text, or messages."""
    return answer if isinstance(prompt, str) else [{"role": "assistant", "content": answer}]


def _said(message: Message) -> str:
    calls: Sequence[object] = calls_of(message)
    written = [json.dumps(call, ensure_ascii=False) for call in calls]
    return "\n".join(part for part in (str(message.get("content") or ""), *written) if part)
