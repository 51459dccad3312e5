"""Prepare the texts of examples for comparison: a string equals a message with the same text and role."""

from __future__ import annotations

import json
from hashlib import blake2b

from prefzoo.data.examples import Example, Pair, Text
from prefzoo.data.tokenising import split_shared


def parts_of(example: Example) -> tuple[Text, tuple[Text, ...]]:
    """Return an example's prompt and its answers. Messages that both answers begin with count as prompt."""
    if isinstance(example, Pair):
        prompt, chosen, rejected = split_shared(example)
        return prompt, (chosen, rejected)
    return example.prompt, (example.completion,)


def digest(text: Text, role: str) -> int:
    """Return a 64-bit hash of a text. White space around the text or around each message is ignored.

    Args:
        text: a string, or messages.
        role: the role of a string, which then has the same hash as one message of this role.
    """
    messages = [{"role": role, "content": text}] if isinstance(text, str) else text
    plain = [{**message, "content": str(message.get("content") or "").strip()} for message in messages]
    return int.from_bytes(blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=8).digest())


def spoken(text: Text, *roles: str) -> str:
    """Return a string, or the contents of messages joined by line breaks.

    Args:
        text: a string, or messages.
        roles: the roles of the messages to take; if none are given, all messages but the system's.
    """
    if isinstance(text, str):
        return text
    messages = [m for m in text if (m["role"] in roles if roles else m["role"] != "system")]
    return "\n".join(str(message.get("content") or "") for message in messages)
