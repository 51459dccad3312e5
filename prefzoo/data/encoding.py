"""Turn a prompt and an answer into token ids, with the chat template if there is one, and flag the scored tokens.

The boundary between prompt and answer is exact, and the end-of-turn token of each assistant turn is scored once.
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
        ids: the token ids of both, up to the end of the assistant's last turn.
        scored: for each token, whether its log-prob counts.
        start: index of the first scored token.
        merged: whether the prompt has other tokens when it is tokenised alone.
        left_out: whether the template leaves out some text of the assistant.
    """

    ids: list[int]
    scored: list[bool]
    start: int
    merged: bool
    left_out: bool = False


def encode_prompt(tokenizer: Any, prompt: Text, variables: Mapping[str, Any] | None = None) -> list[int]:
    """Tokenise a prompt for generation, with the header of the assistant's turn if there is a chat template.

    Args:
        tokenizer: a transformers tokenizer, with or without a chat template.
        prompt: text, or messages.
        variables: variables for the chat template.

    Returns:
        The token ids, up to where an answer begins in training, too.
    """
    if not tokenizer.chat_template:
        return encode(tokenizer, plain_prompt(prompt))
    chat = Chat(tokenizer, None, variables or {})
    return encode(tokenizer, chat.render(as_messages("user", prompt), generation=True))


def encode_answer(chat: Chat, prompt: Text, answer: Text, score: Score = "all") -> Encoded:
    """Tokenise a prompt and an answer together, and flag the tokens that are scored.

    A token that lies across the edge of an assistant turn counts as part of that turn.

    Args:
        chat: the tokenizer and the inputs of its chat template.
        prompt: text, or messages.
        answer: text, or messages; only messages of the assistant are scored.
        score: which assistant turns of the answer are scored: `all`, or only the `last`.

    Returns:
        The tokens; the last one is the end-of-turn or EOS token of the last turn.

    Raises:
        UserError: the chat template refuses the messages, the position of a turn in the rendered text is ambiguous, or
            the answer has no message of the assistant that is scored.
    """
    messages, turns = conversation(chat, prompt, answer)
    return _tokens(chat, messages, turns, score)


def conversation(chat: Chat, prompt: Text, answer: Text, *, with_prompt: bool = False) -> tuple[list[Message], Turns]:
    """Render a prompt and an answer as one text, and find the assistant's turns in it.

    Args:
        chat: the tokenizer and the inputs of its chat template.
        prompt, answer: text, or messages.
        with_prompt: whether to find the assistant's turns in the prompt, too.

    Returns:
        The messages up to the assistant's last one, and the text with its turns.

    Raises:
        UserError: see `encode_answer`.
    """
    if isinstance(answer, str) and chat.eos_token:
        answer = answer.removesuffix(chat.eos_token)  # the template adds its own
    before, messages = as_messages("user", prompt), as_messages("assistant", answer)
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    if not messages:
        raise UserError("an answer has no message of the assistant, so nothing in it can be scored; remove the row")
    whole = [*before, *messages]
    if chat.tokenizer.chat_template:
        return whole, assistant_turns(chat, whole, 0 if with_prompt else len(before))
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
    """Return the flags of the template's `{% generation %}` blocks; None without blocks, or if the tokens differ."""
    if not chat.tokenizer.chat_template or not turns.as_template:
        return None
    marked = chat.marked(messages)
    if marked is None:
        return None
    theirs, flags = marked
    theirs = theirs[len(theirs) - len(encode(chat.tokenizer, turns.text)) :]  # `encode` removes a second BOS
    flags = flags[len(flags) - len(theirs) :]
    known = min(len(ids), len(theirs))  # an EOS may have been added
    return [*flags[:known], *[False] * (len(ids) - known)] if theirs[:known] == ids[:known] else None


def end_tokens(tokenizer: Any) -> frozenset[int | None]:
    """Return the ids of tokens that may end a turn: the EOS token and all special tokens."""
    return _end_tokens(tokenizer, len(tokenizer), tokenizer.eos_token_id)


@lru_cache(maxsize=16)
def _end_tokens(tokenizer: Any, _size: int, eos: int | None) -> frozenset[int | None]:
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset({*special, eos})


def end_of_turn(tokenizer: Any, ids: list[int], start: int, end: int, ends: frozenset[int | None]) -> int:
    """Find where a turn ends, without the white space that a template may add after its end-of-turn token.

    Args:
        tokenizer: the tokenizer, to decode tokens.
        ids: the token ids of the conversation.
        start, end: the range of the turn, with the white space after it.
        ends: the ids of tokens that may end a turn.

    Returns:
        The index after the end-of-turn token; `end` if there is no such token.
    """
    last, size = end, len(tokenizer)
    while last > start and _is_blank(tokenizer, size, ids[last - 1]):
        last -= 1
    return last if last > start and ids[last - 1] in ends else end


@lru_cache(maxsize=4096)
def _is_blank(tokenizer: Any, _size: int, token: int) -> bool:
    return not tokenizer.decode([token]).strip()


def _with_end_of_turn(tokenizer: Any, ids: list[int], start: int, ends: frozenset[int | None]) -> list[int]:
    """Cut the tokens after the end-of-turn token of the last turn; if it has none, append EOS."""
    end = end_of_turn(tokenizer, ids, start, len(ids), ends)
    if end > start and ids[end - 1] in ends:
        return ids[:end]
    return ids if tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id]


def plain_prompt(prompt: Text) -> str:
    """Return the text of a prompt for a tokenizer without a chat template.

    Args:
        prompt: text, or messages, each of which becomes its content and a line break.
    """
    return prompt if isinstance(prompt, str) else "".join(f"{_content(m)}\n" for m in as_messages("user", prompt))


def _plain_turns(head: str, messages: list[Message]) -> Turns:
    """Append messages to the prompt `head`, separated by line breaks, for a tokenizer without a chat template."""
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
