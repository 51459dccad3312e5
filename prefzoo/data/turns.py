"""Find the assistant's turns in the rendered text of a conversation, as exact ranges of characters.

A turn begins after its header, where generation would begin, and includes its end-of-turn token. If the rendering of
the first messages is a prefix of the whole rendering, comparing both gives the range. Some templates write a turn
differently when messages follow it (without its reasoning, or without an end-of-text token). Then the conversation is
rendered again with a marker in place of the turn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefzoo.data.chat import REASONING, Chat, calls_of
from prefzoo.data.examples import Message
from prefzoo.errors import UserError

Span = tuple[int, int]
MARKERS = "\ue0f3\ue0f4\ue0f5"  # private-use characters; one that is not in the conversation replaces a turn
TAIL = 16  # last characters of a header, by which its end is recognised
SHOWN = 60  # most characters of a rendering in an error
THOUGHT = "</think>"


@dataclass(frozen=True)
class Turns:
    """A conversation as text, with the positions of the assistant's turns.

    Attributes:
        text: the rendered conversation.
        spans: (start, end) of each turn in characters, end exclusive, in order.
        as_template: whether the text equals the template's rendering of the messages.
        left_out: whether the template leaves out some content of these turns.
    """

    text: str
    spans: tuple[Span, ...]
    as_template: bool
    left_out: bool


def assistant_turns(chat: Chat, messages: Sequence[Message], first: int) -> Turns:
    """Render a conversation that ends with the assistant, and find the assistant's turns.

    Args:
        chat: the tokenizer and the inputs of its chat template.
        messages: the conversation; the last message is the assistant's.
        first: index of the first message whose turn is wanted.

    Returns:
        The text, and the assistant's turns from message `first` on.

    Raises:
        UserError: the template refuses the messages or leaves out a tool call, or the position of a turn is ambiguous;
            then the message shows both renderings.
    """
    context, last = list(messages[:-1]), messages[-1]
    head = chat.render(context, generation=True) if context else _header(chat, last)
    whole = chat.render(messages, generation=False)
    as_template = whole.startswith(head)
    text = whole if as_template else head + _answer(chat, context, last, head, whole)
    earlier = [i for i in range(first, len(context)) if context[i]["role"] == "assistant"]
    spans = [_turn(chat, context, i, head) for i in earlier] + [(len(head), len(text))]
    written = [(messages[i], text[start:end]) for i, (start, end) in zip([*earlier, -1], spans, strict=True)]
    for message, turn in written:
        _check_calls(message, turn)
    left_out = any(_lacks(message, turn, final=message is last) for message, turn in written)
    return Turns(text, tuple(spans), as_template, left_out)


def _header(chat: Chat, last: Message) -> str:
    """Return the text before the first word of `last`, if that is the only message of a conversation."""
    marker = _marker(str(last.get("content")))
    marked = chat.render([_plain(last, marker)], generation=False)
    return marked[: marked.find(marker)]


def _answer(chat: Chat, context: list[Message], last: Message, head: str, whole: str) -> str:
    """Return the text of the last turn, if the whole rendering does not begin with `head`.

    That happens if the header for generation already begins the answer (with `<think>`), or if the template removes
    reasoning from answers.
    """
    marker = _marker(whole)
    marked = chat.render([*context, _plain(last, marker)], generation=False)
    at = marked.find(marker)
    end = marked[at + 1 :] if at >= 0 else ""
    start = at - len(_lead(head, marked[: max(at, 0)]))
    if at >= 0 and whole[:start] == marked[:start] and marked[:start].endswith(head[-TAIL:]):
        return whole[start:]  # only the text before the last header differs
    if calls_of(last) or any(last.get(name) for name in REASONING):
        raise _unfollowed(context, len(context), head, whole)
    begun = head[len(os.path.commonprefix([head, whole])) :].strip()
    content = str(last["content"])
    if begun and content.lstrip().startswith(begun):
        content = content.lstrip()[len(begun) :].lstrip("\n")
    return content + end


def _turn(chat: Chat, context: list[Message], i: int, text: str) -> Span:
    """Return the (start, end) of the turn `context[i]` in the text of the whole conversation."""
    before = chat.render(context[:i], generation=True) if i else None
    own = chat.render(context[: i + 1], generation=False)
    if before is not None and text.startswith(before) and own.startswith(before):
        start, alone = len(before), own[len(before) :]
    else:
        start, alone = _by_marker(chat, context, i, text, before, own)
    length = _length(chat, alone, text[start:])
    turn = text[start : start + length]
    if not length or (turn != alone and not calls_of(context[i]) and _lacks(context[i], turn, final=False)):
        raise _unfollowed(context, i, own, text)
    return start, start + length


def _by_marker(chat: Chat, context: list[Message], i: int, text: str, before: str | None, own: str) -> tuple[int, str]:
    """Return where turn `i` starts in `text`, and its text if the conversation ends with it, found with a marker."""
    marker = _marker(text)
    for plain in (_plain(context[i], marker), {**_plain(context[i], marker), **_calls(context[i])}):
        try:
            there = chat.render([*context[:i], plain, *context[i + 1 :]], generation=True)
            here = chat.render([*context[:i], plain], generation=False)
        except UserError:  # some templates refuse a tool's answer without a call
            continue
        at, own_at = there.find(marker), here.find(marker)
        if at < 0 or own_at < 0:
            continue
        lead = _lead(before or "", here[:own_at])
        start = at - len(lead) if there[:at].endswith(lead) else at
        if not there[start:at].strip():  # white space before the content, which a tool call may lack
            start = min(start, len(os.path.commonprefix([text, there])))
        if text[:start] == there[:start]:
            same = len(os.path.commonprefix([own, here]))
            return start, own[min(same, own_at - len(lead)) :]
    raise _unfollowed(context, i, own, text)


def _length(chat: Chat, alone: str, rest: str) -> int:
    """Return the length of a turn in characters, where more messages may follow; 0 if it cannot be determined.

    Args:
        chat: the tokenizer, for its end-of-turn tokens.
        alone: the text of the turn if the conversation ends with it, maybe with reasoning before or an end-of-text
            token after it.
        rest: the text of the whole conversation from the turn's start on.
    """
    if rest.startswith(alone):
        return len(alone)
    blanks = len(rest) - len(rest.lstrip())  # a template may strip them from one of the two
    if blanks:
        length = _length(chat, alone, rest[blanks:])
        return blanks + length if length else 0
    best, whole, at = 0, False, alone.find(rest[:1])
    while at >= 0:
        same = len(os.path.commonprefix([alone[at:], rest]))
        if same > best:
            best, whole = same, same == len(alone) - at
        at = alone.find(rest[:1], at + 1)
    if whole:
        return best if rest[:best].strip() else 0
    ends = [rest.rfind(token, 0, best) + len(token) for token in _end_tokens(chat.tokenizer) if token in rest[:best]]
    return max(ends, default=best)  # drops a common `<|` as in `<|end|><|user|>` and `<|end|><|endoftext|>`


def _lead(before: str, header: str) -> str:
    """Return the text between the header for generation and the first word of the answer, which is mostly empty.

    Args:
        before: the rendering of a conversation with the header of its next answer.
        header: the rendering of the same conversation with an answer, up to the answer's first word. The two may
            differ at the start.
    """
    if before and header.startswith(before):
        return header[len(before) :]
    tail = before[-TAIL:]
    length = next((n for n in range(min(TAIL, len(header))) if tail and header[: len(header) - n].endswith(tail)), 0)
    return header[len(header) - length :]


def _end_tokens(tokenizer: Any) -> set[str]:
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return special | ({tokenizer.eos_token} if tokenizer.eos_token else set())


def _plain(message: Message, marker: str) -> Message:
    return {"role": message["role"], "content": marker}


def _calls(message: Message) -> Message:
    return {"tool_calls": message["tool_calls"]} if message.get("tool_calls") else {}


def _marker(text: str) -> str:
    return next(m for m in MARKERS if m not in text)


def _check_calls(message: Message, turn: str) -> None:
    lost = [str(call.get("name")) for call in calls_of(message) if str(call.get("name")) not in turn]
    if lost:
        raise UserError(
            f"the chat template does not write the call of {lost[0]}; use a model whose template supports tool_calls, "
            "or remove the row"
        )


def _lacks(message: Message, turn: str, *, final: bool) -> bool:
    """Return whether the text of a turn lacks the message's content or, for the last turn, its reasoning."""
    content = str(message.get("content") or "").rpartition(THOUGHT)[2].strip()
    reasoning = str(message.get("reasoning_content") or "").strip() if final else ""
    return content not in turn or reasoning not in turn


def _unfollowed(context: Sequence[Message], i: int, alone: str, within: str) -> UserError:
    """Return the error for a turn that a template writes in two ways, showing both from their first difference on."""
    same = max(0, len(os.path.commonprefix([alone, within])) - SHOWN // 3)
    return UserError(
        f"the chat template writes message {i + 1} in two ways, so its tokens cannot be identified: "
        f"{alone[same : same + SHOWN]!r} where the conversation ends with it, "
        f"{within[same : same + SHOWN]!r} where more follows; keep one answer per row, or use another template"
    )
