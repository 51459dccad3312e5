"""Token ids of pairs and of labelled answers, with flags for the tokens that are scored.

A token is scored if its log-prob counts in the loss; the other tokens of an answer are only read by the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar, cast

from prefzoo.errors import UserError

TooLong = Literal["drop", "cut"]
Scored = tuple[list[bool], ...]


class _Lengths(ABC):
    """The lengths of a prompt and its answers, for the classes of token ids below."""

    prompt: list[int]
    scored: Scored | None

    @property
    @abstractmethod
    def answers(self) -> tuple[list[int], ...]:
        """The token ids of each answer, those that are not scored included."""

    def __len__(self) -> int:
        """Return the number of tokens of the prompt with the longest answer."""
        return len(self.prompt) + max(map(len, self.answers))

    @property
    def answer_tokens(self) -> int:
        """Number of tokens of all answers, scored or not."""
        return sum(map(len, self.answers))

    @property
    def scored_lengths(self) -> tuple[int, ...]:
        """Number of scored tokens of each answer."""
        return tuple(map(len, self.answers)) if self.scored is None else tuple(map(sum, self.scored))

    @property
    def scored_tokens(self) -> int:
        """Number of scored tokens of all answers."""
        return sum(self.scored_lengths)

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
        scores: the data set's scores of chosen and rejected; None if the row has no scores.
        scored: for chosen and rejected, whether each token is scored; None if all are.
        quantiles: see `Pair`.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    row: int
    scores: tuple[float, float] | None = None
    scored: Scored | None = None
    quantiles: tuple[float, float] | None = None

    @property
    def answers(self) -> tuple[list[int], list[int]]:
        """Chosen and rejected."""
        return self.chosen, self.rejected

    def truncated(self, length: int) -> TokenPair:
        """Return the pair with both answers cut to `length` tokens."""
        scored = cut_flags(self.scored, length)
        return replace(self, chosen=self.chosen[:length], rejected=self.rejected[:length], scored=scored)


@dataclass(frozen=True)
class TokenAnswer(_Lengths):
    """Token ids of one labelled answer.

    Attributes:
        label: whether the answer is desirable.
        row: index of the row in its data set, from 0.
        scored: a tuple with one list: whether each token of the completion is scored; None if all are.
    """

    prompt: list[int]
    completion: list[int]
    label: bool
    row: int
    scored: Scored | None = None

    @property
    def answers(self) -> tuple[list[int]]:
        """The completion alone."""
        return (self.completion,)

    def truncated(self, length: int) -> TokenAnswer:
        """Return the answer cut to `length` tokens."""
        return replace(self, completion=self.completion[:length], scored=cut_flags(self.scored, length))


def cut_flags(scored: Scored | None, length: int) -> Scored | None:
    """Return the flags of each answer's first `length` tokens; None if all of these are scored."""
    cut = tuple(flags[:length] for flags in scored or ())
    return cut if not all(map(all, cut)) else None


TokenExample = TokenPair | TokenAnswer
E_co = TypeVar("E_co", bound=TokenExample, covariant=True)


@dataclass(frozen=True)
class Tokenised(Generic[E_co]):
    """A data set as token ids.

    Attributes:
        examples: the examples that were not dropped.
        counts: number of rows that were changed or dropped, by reason.
        roles: number of tokens by role (see `prefzoo.data.roles`); None if they were not counted.
    """

    examples: Sequence[E_co]
    counts: Counter[str]
    roles: dict[str, int] | None = None


def only_pairs(examples: Sequence[TokenExample], fault: str) -> Sequence[TokenPair]:
    """Check that all examples are pairs, and return them with that type.

    Raises:
        UserError: some are labelled answers; the message is `fault`.
    """
    if not all(isinstance(e, TokenPair) for e in examples):
        raise UserError(fault)
    return cast("Sequence[TokenPair]", examples)
