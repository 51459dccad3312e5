"""Turn pairs and labelled answers into token ids. Whatever is dropped, cut or changed on the way is counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar, overload

from prefzoo.data.encoding import encode_answer
from prefzoo.data.examples import Example, LabelledAnswer, Pair
from prefzoo.data.rows import MAX_FAULTS
from prefzoo.errors import UserError
from prefzoo.runtime.progress import Report

TooLong = Literal["drop", "cut"]


class _Lengths(ABC):
    """Lengths of a prompt with its answers."""

    prompt: list[int]

    @property
    @abstractmethod
    def answers(self) -> tuple[list[int], ...]:
        """The token ids of each answer; every one of them is scored."""

    def __len__(self) -> int:
        """Return the number of tokens of the prompt with the longest answer."""
        return len(self.prompt) + max(map(len, self.answers))

    @property
    def answer_tokens(self) -> int:
        """Number of tokens of all answers."""
        return sum(map(len, self.answers))

    @property
    def total_tokens(self) -> int:
        """Number of tokens of the prompt, counted once, and of all answers."""
        return len(self.prompt) + self.answer_tokens

    @property
    def block_lengths(self) -> tuple[int, int, int]:
        """Numbers of tokens of the prompt, the first answer and the second (0 for a single answer)."""
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

    examples: Sequence[E_co]
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
    examples: Sequence[Pair], tokenizer: Any, max_length: int, too_long: TooLong, spec: str = ...,
    report: Report | None = ...,
) -> Tokenised[TokenPair]: ...  # fmt: skip


@overload
def tokenise(
    examples: Sequence[Example], tokenizer: Any, max_length: int, too_long: TooLong, spec: str = ...,
    report: Report | None = ...,
) -> Tokenised[TokenExample]: ...  # fmt: skip


def tokenise(
    examples: Sequence[Example],
    tokenizer: Any,
    max_length: int,
    too_long: TooLong,
    spec: str = "data",
    report: Report | None = None,
) -> Tokenised[TokenExample]:
    """Apply the chat template, if there is one, and split each prompt from its answers.

    Args:
        examples: pairs or single answers, as `normalise` gives them.
        tokenizer: a transformers tokenizer.
        max_length: most tokens of a prompt with one of its answers.
        too_long: what to do with longer examples: drop them, or cut their answers.
        spec: name of the data set, for messages.
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
            faults += [f"{spec}: row {example.row + 1}: {line}" for line in e.lines]
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
            f"{spec}: no pair is left at max_length {max_length} ({reasons}{range_}); raise data.max_length"
        )
    return Tokenised(kept, counts)


def _encode(tokenizer: Any, example: Example, counts: Counter[str]) -> TokenExample | None:
    """Return an example's token ids; None, and a count more, where nothing can be learned from it."""
    tokens = (
        _encode_pair(tokenizer, example, counts)
        if isinstance(example, Pair)
        else _encode_answer(tokenizer, example, counts)
    )
    return None if tokens is None else _with_prompt(tokenizer, tokens, counts)


def _encode_answer(tokenizer: Any, answer: LabelledAnswer, counts: Counter[str]) -> TokenAnswer:
    prompt, completion, moved = encode_answer(tokenizer, answer.prompt, answer.completion)
    if moved:
        counts["boundary moved"] += 1
    return TokenAnswer(prompt, completion, answer.label, answer.row)


def _encode_pair(tokenizer: Any, pair: Pair, counts: Counter[str]) -> TokenPair | None:
    prompt, chosen, moved = encode_answer(tokenizer, pair.prompt, pair.chosen)
    other, rejected, moved_too = encode_answer(tokenizer, pair.prompt, pair.rejected)
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
