"""Count the tokens of a data set by role, and how many of the assistant's are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.data.boundaries import encode, locate
from prefzoo.data.chat import Chat, as_messages
from prefzoo.data.encoding import conversation, end_of_turn, end_tokens, plain_prompt
from prefzoo.data.examples import Example, LabelledAnswer, Message, Text
from prefzoo.data.tokenising import Reading, chat_of
from prefzoo.data.tokens import TokenExample
from prefzoo.errors import UserError

TEMPLATE = "template"  # tokens outside of messages: headers, tools, the ends of turns that are not the assistant's
UNSCORED = "assistant, not scored"
SHORT = 12  # a message with fewer characters may also occur in the template's own text, like `user`
MARKER = "\ue0f6"
Region = tuple[int, int, str]


def roles_of(example: Example, tokens: TokenExample, tokenizer: Any, reading: Reading) -> list[list[str]]:
    """Return the role of each token.

    Args:
        example: a pair or a labelled answer.
        tokens: its token ids.
        tokenizer: the tokenizer that they are from.
        reading: the settings that they were tokenised with.

    Returns:
        One list for the prompt and one for each answer, with a name per token: `assistant` for scored tokens,
        `UNSCORED` for other tokens of the assistant, the role of another message, or `TEMPLATE`.
    """
    prompt, chat = len(tokens.prompt), chat_of(tokenizer, example, reading.variables)
    if tokens.scored is None and (prompt_roles := _of_prompt(chat, example.prompt, tokens.prompt)):
        return [prompt_roles, *(["assistant"] * len(ids) for ids in tokens.answers)]
    regions: list[list[str]] = []
    for side, (answer, ids) in enumerate(zip(_answers(example), tokens.answers, strict=True)):
        roles = _roles(chat, example.prompt, answer)
        scored = tokens.scored[side] if tokens.scored else [True] * len(ids)
        if not side:
            regions.append([UNSCORED if role == "assistant" else role for role in roles[:prompt]])
        own = [*roles[prompt:], *["assistant"] * len(ids)][: len(ids)]  # an EOS may have been added
        regions.append(
            [
                "assistant" if flag else UNSCORED if role == "assistant" else role
                for role, flag in zip(own, scored, strict=True)
            ]
        )
    return regions


def _of_prompt(chat: Chat, prompt: Text, ids: list[int]) -> list[str]:
    """Return the role of each prompt token from the prompt alone; empty if that needs the answers, too."""
    messages = as_messages("user", prompt)
    if not messages or any(m["role"] == "assistant" for m in messages):
        return []
    text = chat.render(messages, generation=True) if chat.tokenizer.chat_template else plain_prompt(prompt)
    if encode(chat.tokenizer, text) != ids:
        return []
    regions = _others(chat, text, messages)
    bounds = locate(chat.tokenizer, text, ids, [edge for start, end, _ in regions for edge in (start, end)])
    roles = [TEMPLATE] * len(ids)
    for (_, _, role), first, last in zip(regions, bounds[::2], bounds[1::2], strict=True):
        roles[first.before : last.through] = [role] * (last.through - first.before)
    return roles


def _answers(example: Example) -> tuple[Text, ...]:
    return (example.completion,) if isinstance(example, LabelledAnswer) else (example.chosen, example.rejected)


def _roles(chat: Chat, prompt: Text, answer: Text) -> list[str]:
    """Return the role of each token of a prompt with one answer."""
    messages, turns = conversation(chat, prompt, answer, with_prompt=True)
    text = turns.text
    spoken: list[Region] = [(start, end, "assistant") for start, end in turns.spans]
    regions = sorted([*spoken, *_others(chat, text, messages)])
    ids = encode(chat.tokenizer, text)
    edges = [edge for start, end, _ in regions for edge in (start, end)]
    bounds = locate(chat.tokenizer, text, ids, edges)
    roles, ends = [TEMPLATE] * len(ids), end_tokens(chat.tokenizer)
    for (_, _, role), first, last in zip(regions, bounds[::2], bounds[1::2], strict=True):
        start, end = first.before, last.through
        if role == "assistant":
            end = end_of_turn(chat.tokenizer, ids, start, end, ends)
        roles[start:end] = [role] * (end - start)
    return roles


def _others(chat: Chat, text: str, messages: Sequence[Message]) -> list[Region]:
    """Return (start, end, role), in characters, of each message in the text that is not the assistant's."""
    regions: list[Region] = []
    at = 0
    for i, message in enumerate(messages):
        content = str(message.get("content") or "").strip()
        start = text.find(content, at) if content else -1
        if start < 0:
            continue
        if message["role"] != "assistant" and len(content) < SHORT and chat.tokenizer.chat_template:
            start = _by_marker(chat, text, messages, i, start)
        at = start + len(content)
        if message["role"] != "assistant":
            regions.append((start, at, message["role"]))
    return regions


def _by_marker(chat: Chat, text: str, messages: Sequence[Message], i: int, first: int) -> int:
    """Return where message `i` starts, found with a marker in its place; `first` if that fails."""
    marked = [*messages[:i], {**messages[i], "content": MARKER}, *messages[i + 1 :]]
    try:
        place = chat.render(marked, generation=False).find(MARKER)
    except UserError:
        return first
    return place if place > first and text.startswith(str(messages[i]["content"]).strip(), place) else first
