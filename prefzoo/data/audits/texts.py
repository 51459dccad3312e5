"""The texts of an example as an audit compares them: the same words of the same speakers are the same text."""

from __future__ import annotations

import json
from hashlib import blake2b

from prefzoo.data.examples import Example, Pair, Text
from prefzoo.data.tokenising import split_shared


def parts_of(example: Example) -> tuple[Text, tuple[Text, ...]]:
    """Return an example's prompt, with the messages that both answers begin with, and its one or two answers."""
    if isinstance(example, Pair):
        prompt, chosen, rejected = split_shared(example)
        return prompt, (chosen, rejected)
    return example.prompt, (example.completion,)


def digest(text: Text, role: str) -> int:
    """Return 64 bits that tell a text from others; white space around it or a message does not count.

    Args:
        text: a string, or messages.
        role: who says it if it is a string, so that one message and its bare text are the same.
    """
    messages = [{"role": role, "content": text}] if isinstance(text, str) else text
    plain = [{**message, "content": str(message.get("content") or "").strip()} for message in messages]
    return int.from_bytes(blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=8).digest())


def spoken(text: Text, *roles: str) -> str:
    """Return what is said in a text, without what belongs to no speaker.

    Args:
        text: a string, or messages.
        roles: whose messages are taken; without any, all but the system's.
    """
    if isinstance(text, str):
        return text
    messages = [m for m in text if (m["role"] in roles if roles else m["role"] != "system")]
    return "\n".join(str(message.get("content") or "") for message in messages)
