"""Convert prompts that are conversations: to messages for models, to one text for judges, tables and files."""

from __future__ import annotations

import json
from collections.abc import Sequence

from prefzoo.data.chat import as_messages, calls_of
from prefzoo.data.examples import Message, Text

PLAIN = {"role", "content"}  # the only fields of a plain text message


def as_text(prompt: Text) -> str:
    """Return a prompt as one text: a string unchanged, or each message below its role in brackets."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"[{message['role']}]\n{_content_of(message)}" for message in prompt)


def simplified(prompt: Text) -> Text:
    """Replace a single user message by its text, which chat templates render alike; return other prompts unchanged."""
    if isinstance(prompt, str) or len(prompt) != 1 or prompt[0]["role"] != "user" or not {*prompt[0]} <= PLAIN:
        return prompt
    return str(prompt[0]["content"])


def with_answer(prompt: Text, answer: str) -> list[Message]:
    """Return the messages of a prompt, followed by an answer of the assistant."""
    return [*as_messages("user", prompt), {"role": "assistant", "content": answer}]


def as_answer(prompt: Text, answer: str) -> Text:
    """Return an answer as text if its prompt is text, else as a list of one message."""
    return answer if isinstance(prompt, str) else [{"role": "assistant", "content": answer}]


def _content_of(message: Message) -> str:
    """Return the text of a message, followed by its tool calls as JSON."""
    calls: Sequence[object] = calls_of(message)
    written = [json.dumps(call, ensure_ascii=False) for call in calls]
    return "\n".join(part for part in (str(message.get("content") or ""), *written) if part)
