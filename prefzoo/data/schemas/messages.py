"""Read messages in every known spelling: role and content, from and value, content in parts, tool calls, JSON text."""

from __future__ import annotations

import ast
import json
from typing import Any

from prefzoo.data.examples import Message, Text
from prefzoo.data.schemas.notes import note
from prefzoo.errors import UserError

SPELLINGS = (("role", "content"), ("from", "value"), ("source", "value"), ("speaker", "text"), ("role", "text"))
ROLES = {
    "human": "user", "prompter": "user", "instruction": "user",
    "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant", "chatbot": "assistant",
    "ai": "assistant", "bard": "assistant", "bing": "assistant", "claude": "assistant", "llama": "assistant",
    "observation": "tool", "function": "tool", "tool_response": "tool", "function_response": "tool", "ipython": "tool",
}  # fmt: skip
CALLS = ("function_call", "tool_call")  # ShareGPT's roles for an assistant message that calls a function
HISTORY = ("user", "assistant")  # the roles of each pair of texts in a history
TEXT_PARTS = ("text", "input_text", "output_text")


def read_text(value: Any) -> Any:
    """Return a cell as text, or as messages with role and content. Return other values unchanged, for later checks.

    Raises:
        UserError: a message has a part that is not text.
    """
    if isinstance(value, str):
        listed = _messages_in(value)
        if listed is None:
            return value
        note("with messages written as JSON text, read as messages")
        value = listed
    if isinstance(value, dict) and _spelling(value):
        value = [value]
    if isinstance(value, list) and value and all(isinstance(m, dict) and _spelling(m) for m in value):
        return [_message(m, number) for number, m in enumerate(value, 1)]
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value


def read_message(value: Any) -> str | None:
    """Return the content of a cell that holds text, text parts, or one message; None for anything else."""
    try:
        read = read_text(value)
        if isinstance(read, list) and all(isinstance(one, dict) and "role" in one for one in read):
            return str(read[0]["content"]) if len(read) == 1 else None
        content = _content(read, 1)
    except UserError:
        return None
    return content if isinstance(content, str) else None


def as_messages(text: Text, role: str) -> list[Message]:
    """Return text as one message of a role; return messages unchanged."""
    return [{"role": role, "content": text}] if isinstance(text, str) else list(text)


def read_history(value: Any) -> list[Message]:
    """Return the earlier messages of a conversation from a cell with messages, or pairs of question and answer.

    Raises:
        UserError: the cell holds neither.
    """
    turns = read_text(parse_json(value)) or []
    if isinstance(turns, list) and all(isinstance(turn, dict) and "role" in turn for turn in turns):
        return turns
    messages: list[Message] = []
    for turn in turns if isinstance(turns, list) else [turns]:
        if not (isinstance(turn, list) and len(turn) == len(HISTORY) and all(isinstance(text, str) for text in turn)):
            raise UserError("history is not a list of pairs of question and answer, or of messages; fix or remove it")
        messages += [{"role": role, "content": text} for role, text in zip(HISTORY, turn, strict=True)]
    return messages


def same_text(a: str, b: str) -> bool:
    """Return whether two texts are equal up to white space."""
    return a == b or a.split() == b.split()


def same_message(a: Message, b: Message) -> bool:
    """Return whether two messages are equal up to white space in their content."""
    if a == b:
        return True
    return {**a, "content": ""} == {**b, "content": ""} and same_text(a["content"], b["content"])


def common_messages(first: list[Message], second: list[Message]) -> int:
    """Return the number of first messages that two conversations have in common, up to white space."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if not same_message(a, b)), min(len(first), len(second)))


def parse_json(value: Any) -> Any:
    """Parse text as JSON, or as a Python literal (which pandas writes to CSV files); return other values unchanged."""
    for parse in (json.loads, ast.literal_eval) if isinstance(value, str) else ():
        try:
            return parse(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return value


def _messages_in(text: str) -> list[Any] | None:
    """Return the messages that a text holds as JSON; None if it holds none."""
    trimmed = text.strip()
    if trimmed[:1] + trimmed[-1:] not in ("[]", "{}") or not any(key in trimmed for key, _ in SPELLINGS):
        return None
    value = parse_json(trimmed)
    value = [value] if isinstance(value, dict) else value
    fits = isinstance(value, list) and value and all(isinstance(m, dict) and _spelling(m) for m in value)
    return value if fits else None


def _spelling(message: dict[str, Any]) -> tuple[str, str] | None:
    """Return the keys of role and content; None if it is not a message. The content may be absent beside tool calls."""
    for role, content in SPELLINGS:
        if isinstance(message.get(role), str) and (content in message or (role == "role" and _calls(message))):
            return role, content
    return None


def _calls(message: dict[str, Any]) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


def _message(message: dict[str, Any], number: int) -> Message:
    """Return a message with the keys role and content, a standard role, and its other fields that are not None."""
    role_key, content_key = _spelling(message) or SPELLINGS[0]
    more = {k: v for k, v in message.items() if k not in (role_key, content_key) and v is not None}
    role, content = message[role_key], _content(message.get(content_key), number)
    name = role.strip().lower()
    if role_key != "role" and name in CALLS and (call := _call(content)):
        return {"role": "assistant", "content": "", **more, "tool_calls": [call]}
    if role_key != "role" and name in CALLS:
        return {"role": "assistant", "content": content, **more}
    known = name if name in ("system", "user", "assistant", "tool", "developer") else ROLES.get(name, role)
    if content is None and (_calls(more) or any(isinstance(v, str) and v for v in more.values())):
        content = ""
    return {"role": known, "content": content, **more}


def _content(value: Any, number: int) -> Any:
    """Return the content of a message. The texts of several parts are joined by line breaks.

    Raises:
        UserError: a part is not text, such as an image.
    """
    parts = [value] if isinstance(value, dict) else value
    if not isinstance(parts, list):
        return value
    texts = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("text", part.get("content")) if isinstance(part, dict) else part
        if kind not in TEXT_PARTS or not isinstance(text, str):
            raise UserError(
                f"message {number} has a part of type {kind!r}, and only text can be trained on; remove the part or "
                "the row"
            )
        texts.append(text)
    return "\n".join(texts)


def _call(content: Any) -> dict[str, Any] | None:
    """Return the function call that a text holds as JSON; None if it holds none."""
    value = parse_json(content)
    if not (isinstance(value, dict) and isinstance(value.get("name"), str)):
        return None
    return {"type": "function", "function": {"name": value["name"], "arguments": value.get("arguments", {})}}
