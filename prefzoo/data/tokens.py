"""Pairs to token ids. The boundary between prompt and answer is exact, EOS is scored once, nothing is cut silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from prefzoo.data.schemas import Pair, Text
from prefzoo.data.sources import AT_MOST
from prefzoo.errors import UserError
from prefzoo.runtime.progress import Report

TooLong = Literal["drop", "cut"]


@dataclass(frozen=True)
class TokenPair:
    """Token ids of one pair. Every token of `chosen` and `rejected` is scored; `row` is its place in the data set.

    A single answer stands in `chosen`, good or not as `label` says, with no `rejected`. `scores` are the data's.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    row: int
    scores: tuple[float, float] | None = None
    label: bool | None = None

    def __len__(self) -> int:
        """Tokens of the longer of prompt + answer."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass
class Tokenised:
    """What became of a data set: the pairs that remain, and a count of everything that was changed or dropped."""

    pairs: list[TokenPair] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def tokenise(
    pairs: Sequence[Pair],
    tokenizer: Any,
    max_length: int,
    too_long: TooLong,
    place: str = "data",
    report: Report | None = None,
) -> Tokenised:
    """Apply the chat template (if there is one), split prompt from answer, and hold rows to `max_length` tokens.

    Raises:
        UserError: the template refuses rows (each named), or no pair is left.
    """
    done = Tokenised()
    lengths: list[int] = []
    faults: list[str] = []
    for number, pair in enumerate(pairs, 1):
        try:
            made = _encode(tokenizer, pair, done.counts)
        except UserError as e:
            faults += [f"{place}: row {pair.row + 1}: {line}" for line in e.lines]
            continue
        if made is not None:
            lengths.append(len(made))
            kept = _fit(made, max_length, too_long, done.counts)
            done.pairs += [kept] if kept else []
        if report:
            report(number, len(pairs), "")
    if faults:
        raise UserError(faults[:AT_MOST])
    if not done.pairs:
        range_ = f"; pairs have {min(lengths)} to {max(lengths)} tokens" if lengths else ""
        reasons = ", ".join(f"{name} {n}" for name, n in done.counts.items())
        raise UserError(
            f"{place}: no pair is left at max_length {max_length} ({reasons}{range_}); raise data.max_length"
        )
    return done


def encode_prompt(tokenizer: Any, prompt: Text) -> list[int]:
    """Token ids of a prompt with the answer's header behind it, as generation and training both start from."""
    return _ids(tokenizer, _prompt_text(tokenizer, prompt))


def _encode(tokenizer: Any, pair: Pair, counts: Counter[str]) -> TokenPair | None:
    prompt, chosen, moved = _split(tokenizer, pair.prompt, pair.chosen)
    if pair.label is not None:
        if moved:
            counts["boundary moved"] += 1
        return _begun(tokenizer, TokenPair(prompt, chosen, [], pair.row, label=pair.label), counts)
    other, rejected, moved_too = _split(tokenizer, pair.prompt, pair.rejected)
    shared = min(len(prompt), len(other))  # a tokenizer may merge across the boundary in one answer only
    made = TokenPair(prompt[:shared], prompt[shared:] + chosen, other[shared:] + rejected, pair.row, pair.scores)
    if not isinstance(pair.chosen, str) and not tokenizer.chat_template:
        counts["messages joined by newlines: no chat template"] += 1
    if made.chosen == made.rejected:
        counts["dropped: equal once tokenised"] += 1
        return None
    if moved or moved_too:
        counts["boundary moved"] += 1
    return _begun(tokenizer, made, counts)


def _begun(tokenizer: Any, made: TokenPair, counts: Counter[str]) -> TokenPair | None:
    """The pair with a prompt of one BOS, if it has none: something must predict the first token of an answer."""
    if made.prompt:
        return made
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        counts["dropped: no prompt, and no BOS to begin with"] += 1
        return None
    counts["begun with a BOS: no prompt"] += 1
    return replace(made, prompt=[first])


def _split(tokenizer: Any, prompt: Text, answer: Text) -> tuple[list[int], list[int], bool]:
    """Prompt ids, answer ids with their end-of-turn last, and whether the boundary had to be moved back.

    Both are tokenised together; where a token spans the boundary, the prompt ends before it.
    """
    head = _prompt_text(tokenizer, prompt)
    start = _ids(tokenizer, head)
    whole = _ids(tokenizer, head + _answer_text(tokenizer, prompt, answer))
    same = next((i for i, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), min(len(start), len(whole)))
    return whole[:same], _ended(tokenizer, whole[same:]), same < len(start)


def _ended(tokenizer: Any, answer: list[int]) -> list[int]:
    """The answer up to its end-of-turn (templates may print blanks behind it), or with EOS added for lack of one."""
    last = len(answer)
    while last and not tokenizer.decode(answer[last - 1 : last]).strip():
        last -= 1
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | {tokenizer.eos_token_id}
    if last and answer[last - 1] in special:
        return answer[:last]
    return answer if tokenizer.eos_token_id is None else [*answer, tokenizer.eos_token_id]


def _prompt_text(tokenizer: Any, prompt: Text) -> str:
    if not tokenizer.chat_template:
        return prompt if isinstance(prompt, str) else "\n".join(m["content"] for m in prompt) + "\n"
    return _template(tokenizer, _messages("user", prompt), True)


def _answer_text(tokenizer: Any, prompt: Text, answer: Text) -> str:
    if isinstance(answer, str) and tokenizer.eos_token:
        answer = answer.removesuffix(tokenizer.eos_token)  # else the template's own would be the second
    if not tokenizer.chat_template:
        return answer if isinstance(answer, str) else "\n".join(m["content"] for m in answer)
    head, messages = _prompt_text(tokenizer, prompt), _messages("assistant", answer)
    whole = _template(tokenizer, [*_messages("user", prompt), *messages], False)
    if whole.startswith(head):
        return whole[len(head) :]
    if len(messages) > 1:
        raise UserError("the chat template writes a prompt differently once it is answered; keep one answer per row")
    return messages[0]["content"]  # a reasoning template: its header for an answer to come is what generation sees


def _template(tokenizer: Any, messages: list[dict[str, str]], generation: bool) -> str:
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(messages, add_generation_prompt=generation, tokenize=False)
    except TemplateError as e:
        roles = ", ".join(m["role"] for m in messages)
        raise UserError(f"the chat template refuses the roles {roles}: {e}; change or remove the row") from e
    return text


def _messages(role: str, text: Text) -> list[dict[str, str]]:
    return [{"role": role, "content": text}] if isinstance(text, str) else text


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Ids with exactly one BOS where the tokenizer or its template sets one, and no EOS of the tokenizer's making."""
    ids: list[int] = tokenizer(text, add_special_tokens=not tokenizer.chat_template, verbose=False)["input_ids"]
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if not tokenizer.chat_template and eos is not None and ids[-1:] == [eos] and not text.endswith(tokenizer.eos_token):
        ids = ids[:-1]
    while bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
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
    return replace(pair, chosen=pair.chosen[:room], rejected=pair.rejected[:room])
