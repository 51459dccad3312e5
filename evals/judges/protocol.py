"""The types that all judges share: prompts, answers, comparisons, verdicts, and the base class `Judge`."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prefzoo.data.examples import Text
from prefzoo.evals.judges.conversations import as_text

TIE = 1.5  # on alpaca-eval's scale from 1 (the baseline wins) to 2 (the model wins)
Outcome = float | str  # a preference or a score, or the reason for a missing one
Progress = Callable[[int, int], None]  # called with the number of finished calls and of all calls


@dataclass(frozen=True)
class PromptRow:
    """A prompt, with the checks that its answer should pass.

    Attributes:
        id: the prompt's name in its set.
        prompt: a text, or the messages of a conversation that the answer continues.
        checks: the checks, each as `{"kind": …, **params}`.
        topic: the prompt's subject, if it is known.
    """

    id: str
    prompt: Text
    checks: tuple[dict[str, Any], ...] = ()
    topic: str | None = None

    @property
    def text(self) -> str:
        """The prompt as one text, which identifies it in tables and files."""
        return as_text(self.prompt)


@dataclass(frozen=True)
class Answer:
    """A generated answer.

    Attributes:
        text: the answer.
        finished: whether the model ended it before the limit on tokens.
        tokens: number of its tokens, without the token that ends it; 0 if unknown.
    """

    text: str
    finished: bool
    tokens: int


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt, in the order in which a judge sees them."""

    row: PromptRow
    first: Answer
    second: Answer


@dataclass(frozen=True, eq=False)
class Verdict:
    """A judge's preference between two answers. A missing number, NaN, equals another that is missing.

    Attributes:
        preference: from 1 (the first answer wins) over 1.5 (a tie) to 2 (the second wins); NaN if it is missing.
        orders: the preferences with the first answer shown first and shown second, both on the scale above; empty if
            the judge was not asked, one value from a judge that gives no preference per order.
        missing: the reason for a missing preference; empty otherwise.
        members: the preference of each judge of a panel, NaN where it is missing; empty for other judges.
        drawn: the preference in the one order that AlpacaEval draws for the instruction; NaN for other judges.
    """

    preference: float
    orders: tuple[float, ...] = ()
    missing: str = ""
    members: tuple[float, ...] = ()
    drawn: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.preference) != bool(self.missing):
            raise ValueError(f"preference {self.preference} with reason {self.missing!r}: one goes without the other")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdict) and repr(self) == repr(other)  # from Python 3.13 on NaN differs from itself

    def __hash__(self) -> int:
        return hash(repr(self))


class Judge(ABC):
    """Base class of all judges, which compare the answers of two models.

    Derive from `PairwiseJudge`, which sees both answers, or from `ScoringJudge`, which sees one at a time, instead.

    Attributes:
        name: the judge's identity, which every row of annotations carries.
        prompt_hash: hash of its prompt template; empty without one.
        scores_answers: whether `scores` works.
        needs_checks: whether it judges only prompts that carry checks.
        graded: whether its verdicts are Arena-Hard's: clear ones 1 and 2, slight ones 1.25 and 1.75.
        members: the names of a panel's judges; empty for other judges.
        draws_order: whether its verdicts have AlpacaEval's drawn preference (`Verdict.drawn`).
        free: whether it needs no model, server or user's function, so that it may run unasked.
    """

    name: str
    prompt_hash: str = ""
    scores_answers: bool = False
    needs_checks: bool = False
    free: bool = False
    graded: bool = False
    members: tuple[str, ...] = ()
    draws_order: bool = False

    def check(self) -> None:  # noqa: B027 - most judges are ready once they are loaded
        """Raise UserError if the judge cannot judge at all. Runs before anything expensive."""

    def forecast(self, comparisons: Sequence[Comparison]) -> str:
        """Return the estimated cost of the comparisons in words; empty if they are free."""
        return ""

    @abstractmethod
    def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
        """Return a verdict for each comparison, in order; a failed call is a missing verdict.

        Raises:
            UserError: the judge cannot judge at all.
        """

    def scores(self, answers: Sequence[tuple[PromptRow, Answer]], progress: Progress | None = None) -> list[Outcome]:
        """Return a score of each answer, higher is better, or the reason for a missing one.

        Raises:
            TypeError: the judge does not score single answers (`scores_answers` is false).
        """
        raise TypeError(f"judge {self.name} does not score single answers")


def plain_name(judge: str) -> str:
    """Return a judge's name as a recipe writes it, without the hash of its code or weights."""
    return re.sub(r"@[0-9a-f]{8,}(?=,|$)", "", judge).replace("function:", "")
