"""Pairs to token ids. The boundary between prompt and answer is exact, EOS is scored once, nothing is cut silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from prefzoo.data.schemas import Pair, Text
from prefzoo.errors import UserError

TooLong = Literal["drop", "cut"]


@dataclass(frozen=True)
class TokenPair:
    """Token ids of one pair. Every token of `chosen` and `rejected` is scored; `row` is its place in the data set."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    row: int

    def __len__(self) -> int:
        """Tokens of the longer of prompt + answer."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass
class Tokenised:
    """What became of a data set: the pairs that remain, and a count of everything that was changed or dropped."""

    pairs: list[TokenPair] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def tokenise(
    pairs: Sequence[Pair], tokenizer: Any, max_length: int, too_long: TooLong, place: str = "data"
) -> Tokenised:
    """Apply the chat template (if there is one), split prompt from answer, and hold rows to `max_length` tokens.

    Raises:
        UserError: nothing is left.
    """
    done = Tokenised()
    longest = 0
    for pair in pairs:
        prompt, chosen, moved = _split(tokenizer, pair.prompt, pair.chosen)
        other, rejected, moved_too = _split(tokenizer, pair.prompt, pair.rejected)
        shared = min(len(prompt), len(other))  # a tokenizer may merge across the boundary in one answer only
        if moved or moved_too or len(prompt) != len(other):
            done.counts["boundary moved"] += 1
        made = TokenPair(prompt[:shared], prompt[shared:] + chosen, other[shared:] + rejected, pair.row)
        longest = max(longest, len(made))
        kept = _fit(made, max_length, too_long, done.counts)
        if kept:
            done.pairs.append(kept)
    if not done.pairs:
        raise UserError(
            f"{place}: no pair fits max_length {max_length} (the longest has {longest} tokens); raise data.max_length"
        )
    return done


def encode_prompt(tokenizer: Any, prompt: Text) -> list[int]:
    """Token ids of a prompt with the answer's header behind it, as generation and training both start from."""
    return _ids(tokenizer, _prompt_text(tokenizer, prompt))


def _split(tokenizer: Any, prompt: Text, answer: Text) -> tuple[list[int], list[int], bool]:
    """Prompt ids, answer ids ending in EOS, and whether the boundary had to be moved back."""
    head = _prompt_text(tokenizer, prompt)
    whole = _ids(tokenizer, head + _answer_text(tokenizer, prompt, answer))
    start = _ids(tokenizer, head)
    same = next((i for i, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), min(len(start), len(whole)))
    tail = whole[same:]
    if tokenizer.eos_token_id is not None:
        if tokenizer.eos_token_id in tail:  # the template's own end of turn; what it prints behind is not the answer
            last = len(tail) - tail[::-1].index(tokenizer.eos_token_id)
            tail = tail[:last] if not tokenizer.decode(tail[last:]).strip() else tail
        if tail[-1:] != [tokenizer.eos_token_id]:
            tail = [*tail, tokenizer.eos_token_id]
    return whole[:same], tail, same < len(start)


def _prompt_text(tokenizer: Any, prompt: Text) -> str:
    if not tokenizer.chat_template:
        return prompt if isinstance(prompt, str) else "\n".join(m["content"] for m in prompt) + "\n"
    text: str = tokenizer.apply_chat_template(_messages("user", prompt), add_generation_prompt=True, tokenize=False)
    return text


def _answer_text(tokenizer: Any, prompt: Text, answer: Text) -> str:
    if isinstance(answer, str) or not tokenizer.chat_template:
        return answer if isinstance(answer, str) else "\n".join(m["content"] for m in answer)
    head = _prompt_text(tokenizer, prompt)
    whole: str = tokenizer.apply_chat_template([*_messages("user", prompt), *answer], tokenize=False)
    return whole[len(head) :] if whole.startswith(head) else answer[-1]["content"]


def _messages(role: str, text: Text) -> list[dict[str, str]]:
    return [{"role": role, "content": text}] if isinstance(text, str) else text


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Ids with exactly one BOS where the tokenizer or its template sets one, and no EOS of the tokenizer's making."""
    ids: list[int] = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if not tokenizer.chat_template and ids[-1:] == [eos] and not text.endswith(str(tokenizer.eos_token)):
        ids = ids[:-1]
    while len(ids) > 1 and ids[0] == ids[1] == bos:
        ids = ids[1:]
    return ids


def _fit(pair: TokenPair, max_length: int, too_long: TooLong, counts: Counter[str]) -> TokenPair | None:
    if len(pair) <= max_length:
        return pair
    room = max_length - len(pair.prompt)
    if too_long == "drop" or room <= 0:
        counts["dropped: too long" if too_long == "drop" else "dropped: prompt alone is too long"] += 1
        return None
    if pair.chosen[:room] == pair.rejected[:room]:
        counts["dropped: equal once cut"] += 1
        return None
    counts["cut"] += 1
    return TokenPair(pair.prompt, pair.chosen[:room], pair.rejected[:room], pair.row)
