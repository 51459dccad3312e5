"""Pairs and single answers to token ids.

The boundary between prompt and answer is exact, EOS is scored once, nothing is cut silently.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar, overload

from prefzoo.data.examples import Example, LabelledAnswer, Pair, Text
from prefzoo.data.rows import MAX_FAULTS
from prefzoo.errors import UserError
from prefzoo.runtime.progress import Report

TooLong = Literal["drop", "cut"]


class _Lengths(ABC):
    """The lengths that pairs and single answers share."""

    prompt: list[int]

    @property
    @abstractmethod
    def answers(self) -> tuple[list[int], ...]:
        """The token ids of each answer; every one of them is scored."""

    def __len__(self) -> int:
        """Return the tokens of the prompt and the longest answer."""
        return len(self.prompt) + max(map(len, self.answers))

    @property
    def scored(self) -> int:
        """The tokens of all answers."""
        return sum(map(len, self.answers))

    @property
    def total(self) -> int:
        """The tokens of the prompt, counted once, and of all answers."""
        return len(self.prompt) + self.scored

    @property
    def block(self) -> tuple[int, int, int]:
        """The tokens of the prompt, of the first answer and of the second (0 for a single answer)."""
        first, second = (*map(len, self.answers), 0)[:2]
        return len(self.prompt), first, second


@dataclass(frozen=True)
class TokenPair(_Lengths):
    """Token ids of one pair.

    Attributes:
        row: index of the row in its data set, from 0.
        scores: the data's scores of chosen and rejected; None where it has none.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    row: int
    scores: tuple[float, float] | None = None

    @property
    def answers(self) -> tuple[list[int], list[int]]:
        """Chosen and rejected."""
        return self.chosen, self.rejected

    def truncated(self, length: int) -> TokenPair:
        """Return the pair with both answers cut to `length` tokens."""
        return replace(self, chosen=self.chosen[:length], rejected=self.rejected[:length])


@dataclass(frozen=True)
class TokenAnswer(_Lengths):
    """Token ids of one single answer.

    Attributes:
        label: whether the answer is a desirable one.
        row: index of the row in its data set, from 0.
    """

    prompt: list[int]
    completion: list[int]
    label: bool
    row: int

    @property
    def answers(self) -> tuple[list[int]]:
        """The completion alone."""
        return (self.completion,)

    def truncated(self, length: int) -> TokenAnswer:
        """Return the answer cut to `length` tokens."""
        return replace(self, completion=self.completion[:length])


TokenExample = TokenPair | TokenAnswer
E_co = TypeVar("E_co", bound=TokenExample, covariant=True)


@dataclass(frozen=True)
class Tokenised(Generic[E_co]):
    """A data set as token ids: the examples that remain, and a count of everything that was changed or dropped."""

    pairs: Sequence[E_co]
    counts: Counter[str]


def only_pairs(examples: Sequence[TokenExample], fault: str) -> list[TokenPair]:
    """Return the examples as the pairs that they are.

    Raises:
        UserError: some are single answers; the message is `fault`.
    """
    pairs = [e for e in examples if isinstance(e, TokenPair)]
    if len(pairs) < len(examples):
        raise UserError(fault)
    return pairs


@overload
def tokenise(
    examples: Sequence[Pair], tokenizer: Any, max_length: int, too_long: TooLong, place: str = ...,
    report: Report | None = ...,
) -> Tokenised[TokenPair]: ...  # fmt: skip


@overload
def tokenise(
    examples: Sequence[Example], tokenizer: Any, max_length: int, too_long: TooLong, place: str = ...,
    report: Report | None = ...,
) -> Tokenised[TokenExample]: ...  # fmt: skip


def tokenise(
    examples: Sequence[Example],
    tokenizer: Any,
    max_length: int,
    too_long: TooLong,
    place: str = "data",
    report: Report | None = None,
) -> Tokenised[TokenExample]:
    """Apply the chat template, if there is one, and split each prompt from its answers.

    Args:
        examples: pairs or single answers, as `normalise` gives them.
        tokenizer: a transformers tokenizer.
        max_length: most tokens of a prompt with one of its answers.
        too_long: what to do with longer examples: drop them, or cut their answers.
        place: name of the data set, for messages.
        report: called with (examples done, all examples, "") after each.

    Returns:
        The examples that remain, in order, and counts of what was dropped or changed, by reason.

    Raises:
        UserError: the template refuses rows (at most 20 are named), or no example is left.
    """
    kept: list[TokenExample] = []
    counts: Counter[str] = Counter()
    lengths: list[int] = []
    faults: list[str] = []
    for number, example in enumerate(examples, 1):
        try:
            tokens = _encode(tokenizer, example, counts)
        except UserError as e:
            faults += [f"{place}: row {example.row + 1}: {line}" for line in e.lines]
            continue
        if tokens is not None:
            lengths.append(len(tokens))
            fitting = _fit(tokens, max_length, too_long, counts)
            kept += [fitting] if fitting else []
        if report:
            report(number, len(examples), "")
    if faults:
        raise UserError(faults[:MAX_FAULTS])
    if not kept:
        range_ = f"; pairs have {min(lengths)} to {max(lengths)} tokens" if lengths else ""
        reasons = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise UserError(
            f"{place}: no pair is left at max_length {max_length} ({reasons}{range_}); raise data.max_length"
        )
    return Tokenised(kept, counts)


def encode_prompt(tokenizer: Any, prompt: Text) -> list[int]:
    """Token ids of a prompt with the answer's header behind it, as generation and training both start from."""
    return _ids(tokenizer, _prompt_text(tokenizer, prompt))


def _encode(tokenizer: Any, example: Example, counts: Counter[str]) -> TokenExample | None:
    """Return an example's token ids; None, and a count more, where nothing can be learned from it."""
    tokens = (
        _encode_pair(tokenizer, example, counts)
        if isinstance(example, Pair)
        else _encode_answer(tokenizer, example, counts)
    )
    return None if tokens is None else _with_prompt(tokenizer, tokens, counts)


def _encode_answer(tokenizer: Any, answer: LabelledAnswer, counts: Counter[str]) -> TokenAnswer:
    prompt, completion, moved = _split(tokenizer, answer.prompt, answer.completion)
    if moved:
        counts["boundary moved"] += 1
    return TokenAnswer(prompt, completion, answer.label, answer.row)


def _encode_pair(tokenizer: Any, pair: Pair, counts: Counter[str]) -> TokenPair | None:
    prompt, chosen, moved = _split(tokenizer, pair.prompt, pair.chosen)
    other, rejected, moved_too = _split(tokenizer, pair.prompt, pair.rejected)
    shared = min(len(prompt), len(other))  # a tokenizer may merge across the boundary in one answer only
    tokens = TokenPair(prompt[:shared], prompt[shared:] + chosen, other[shared:] + rejected, pair.row, pair.scores)
    if not isinstance(pair.chosen, str) and not tokenizer.chat_template:
        counts["messages joined by newlines: no chat template"] += 1
    if tokens.chosen == tokens.rejected:
        counts["dropped: equal once tokenised"] += 1
        return None
    if moved or moved_too:
        counts["boundary moved"] += 1
    return tokens


def _with_prompt(tokenizer: Any, tokens: TokenExample, counts: Counter[str]) -> TokenExample | None:
    """Return the example, with one BOS as its prompt if that is empty: something must predict an answer's first token.

    None where the tokenizer has no such token.
    """
    if tokens.prompt:
        return tokens
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        counts["dropped: no prompt, and no BOS to begin with"] += 1
        return None
    counts["begun with a BOS: no prompt"] += 1
    return replace(tokens, prompt=[first])


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


def _fit(tokens: TokenExample, max_length: int, too_long: TooLong, counts: Counter[str]) -> TokenExample | None:
    """Return the example if it has at most `max_length` tokens, else its cut or None, as `too_long` asks."""
    if len(tokens) <= max_length:
        return tokens
    left = max_length - len(tokens.prompt)
    if too_long == "drop" or left <= 0:
        counts["dropped: too long" if too_long == "drop" else "dropped: prompt alone is too long"] += 1
        return None
    cut = tokens.truncated(left)
    if isinstance(cut, TokenPair) and cut.chosen == cut.rejected:
        counts["dropped: equal once cut"] += 1
        return None
    counts["cut"] += 1
    return cut
