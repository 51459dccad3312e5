"""Turn prompts and answers into token ids, by the chat template if there is one, and mark the assistant's.

The boundary between prompt and answer is exact, and the end of each of the assistant's turns is scored once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from prefzoo.data.boundaries import encode, locate
from prefzoo.data.chat import Chat, as_messages, calls_of, is_left_out
from prefzoo.data.examples import Message, Text
from prefzoo.data.turns import Turns, assistant_turns
from prefzoo.errors import UserError

Score = Literal["all", "last"]


@dataclass(frozen=True)
class Encoded:
    """A prompt with one answer, as token ids.

    Attributes:
        ids: of the whole, up to the end of the assistant's last turn.
        scored: for each, whether it is part of a turn that is scored.
        start: index of the first scored token.
        merged: whether the prompt alone would have been tokenised otherwise.
        left_out: whether the template leaves out some of what the assistant says.
    """

    ids: list[int]
    scored: list[bool]
    start: int
    merged: bool
    left_out: bool = False


def encode_prompt(tokenizer: Any, prompt: Text, variables: Mapping[str, Any] | None = None) -> list[int]:
    """Return the token ids of a prompt up to the start of an answer, where generation and training both begin.

    Args:
        tokenizer: a transformers tokenizer, with or without a chat template.
        prompt: text, or messages.
        variables: of the chat template.

    Returns:
        The ids.
    """
    if not tokenizer.chat_template:
        return encode(tokenizer, plain_prompt(prompt))
    chat = Chat(tokenizer, None, variables or {})
    return encode(tokenizer, chat.render(as_messages("user", prompt), generation=True))


def encode_answer(chat: Chat, prompt: Text, answer: Text, score: Score = "all") -> Encoded:
    """Tokenise a prompt and an answer together; a token across a boundary belongs to the assistant's side of it.

    Args:
        chat: the tokenizer, with what its chat template is given.
        prompt: text, or messages.
        answer: text, or messages, of which only the assistant's are scored.
        score: whether `all` of the assistant's turns in the answer are scored, or only the `last`.

    Returns:
        The tokens, with the end-of-turn or EOS of the last turn as the last.

    Raises:
        UserError: the chat template refuses the messages or writes them in a way that cannot be followed, or there is
            none of the assistant's in the answer.
    """
    messages, turns = conversation(chat, prompt, answer)
    return _tokens(chat, messages, turns, score)


def conversation(chat: Chat, prompt: Text, answer: Text, *, with_prompt: bool = False) -> tuple[list[Message], Turns]:
    """Write a prompt and an answer as one text, and find the assistant's turns in it.

    Args:
        chat: the tokenizer, with what its chat template is given.
        prompt, answer: text, or messages.
        with_prompt: whether the turns in the prompt are asked for, too.

    Returns:
        The messages up to the assistant's last, and its turns.

    Raises:
        UserError: as `encode_answer`.
    """
    if isinstance(answer, str) and chat.eos_token:
        answer = answer.removesuffix(chat.eos_token)  # or the template's own would be a second
    asked, messages = as_messages("user", prompt), as_messages("assistant", answer)
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    if not messages:
        raise UserError("an answer has no message of the assistant, so nothing in it can be scored; remove the row")
    whole = [*asked, *messages]
    if chat.tokenizer.chat_template:
        return whole, assistant_turns(chat, whole, 0 if with_prompt else len(asked))
    return whole, _plain_turns(plain_prompt(prompt), messages)


def _tokens(chat: Chat, messages: list[Message], turns: Turns, score: Score) -> Encoded:
    spans = turns.spans if score == "all" else turns.spans[-1:]
    ids = encode(chat.tokenizer, turns.text)
    edges = [edge for span in spans for edge in span][:-1]  # the last turn ends with the text
    bounds = locate(chat.tokenizer, turns.text, ids, edges)
    ends = end_tokens(chat.tokenizer)
    ids = _with_end_of_turn(chat.tokenizer, ids, bounds[-1].before, ends)
    starts = [bound.before for bound in bounds[::2]]
    stops = [
        end_of_turn(chat.tokenizer, ids, start, stop, ends)
        for start, stop in zip(starts, [*(bound.through for bound in bounds[1::2]), len(ids)], strict=True)
    ]
    scored = [False] * len(ids)
    spoken = [message for message in messages if message["role"] == "assistant"][-len(spans) :]
    wanted = [(start, stop) for m, start, stop in zip(spoken, starts, stops, strict=True) if not is_left_out(m)]
    if not wanted:
        raise UserError("all of the assistant's turns in an answer have weight 0 or train false; remove the row")
    for start, stop in wanted:
        scored[start:stop] = [True] * (stop - start)
    marks = _marks(chat, messages, turns, ids)
    if marks is not None:
        kept = [ours and mark for ours, mark in zip(scored, marks, strict=True)]
        for _, stop in wanted if any(kept) else ():  # some templates leave the end of a turn outside their marks
            kept[stop - 1] = kept[stop - 1] or ids[stop - 1] in ends
        scored = kept if any(kept) else scored
    return Encoded(ids, scored, scored.index(True), bounds[0].merged, turns.left_out)


def _marks(chat: Chat, messages: list[Message], turns: Turns, ids: list[int]) -> list[bool] | None:
    """Return the template's own marks of the assistant's tokens; None unless it has some for just these tokens."""
    if not chat.tokenizer.chat_template or not turns.as_template:
        return None
    marked = chat.marked(messages)
    if marked is None:
        return None
    theirs, flags = marked
    theirs = theirs[len(theirs) - len(encode(chat.tokenizer, turns.text)) :]  # less a BOS that would be a second
    flags = flags[len(flags) - len(theirs) :]
    known = min(len(ids), len(theirs))  # an EOS may have been added
    return [*flags[:known], *[False] * (len(ids) - known)] if theirs[:known] == ids[:known] else None


def end_tokens(tokenizer: Any) -> frozenset[int | None]:
    """Return the tokens that may end a turn: the tokenizer's EOS, and all that it names special."""
    return _end_tokens(tokenizer, len(tokenizer), tokenizer.eos_token_id)


@lru_cache(maxsize=16)
def _end_tokens(tokenizer: Any, _size: int, eos: int | None) -> frozenset[int | None]:
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset({*special, eos})


def end_of_turn(tokenizer: Any, ids: list[int], start: int, end: int, ends: frozenset[int | None]) -> int:
    """Find where a turn ends: after its end-of-turn, as templates may add blanks; at `end` without one.

    Args:
        tokenizer: decodes the tokens.
        ids: of the conversation.
        start, end: of the turn, with what the template writes after it.
        ends: the tokens that may end a turn.

    Returns:
        The index after the turn's last token.
    """
    last, size = end, len(tokenizer)
    while last > start and _is_blank(tokenizer, size, ids[last - 1]):
        last -= 1
    return last if last > start and ids[last - 1] in ends else end


@lru_cache(maxsize=4096)
def _is_blank(tokenizer: Any, _size: int, token: int) -> bool:
    return not tokenizer.decode([token]).strip()


def _with_end_of_turn(tokenizer: Any, ids: list[int], start: int, ends: frozenset[int | None]) -> list[int]:
    """Return the tokens up to the last turn's end, or with EOS added if it has none."""
    end = end_of_turn(tokenizer, ids, start, len(ids), ends)
    if end > start and ids[end - 1] in ends:
        return ids[:end]
    return ids if tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id]


def plain_prompt(prompt: Text) -> str:
    """Return a prompt as a tokenizer without a chat template reads it.

    Args:
        prompt: text, or messages.
    """
    return prompt if isinstance(prompt, str) else "".join(f"{_content(m)}\n" for m in as_messages("user", prompt))


def _plain_turns(head: str, messages: list[Message]) -> Turns:
    """Join the contents of messages by line breaks, for a tokenizer without a chat template."""
    spans, text = [], head
    for i, message in enumerate(messages):
        text += "\n" if i else ""
        if message["role"] == "assistant":
            spans.append((len(text), len(text) + len(_content(message))))
        text += _content(message)
    return Turns(text, tuple(spans), as_template=False, left_out=False)


def _content(message: Message) -> str:
    if calls_of(message):
        raise UserError("tool_calls need a chat template, and this model's tokenizer has none; use one that has")
    return str(message["content"])
