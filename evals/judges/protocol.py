"""What all judges share: prompts, answers, comparisons, verdicts, and the class that every judge derives from."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prefzoo.data.examples import Text
from prefzoo.evals.judges.conversations import as_text

TIE = 1.5  # alpaca-eval's coding: 1 the baseline wins, 1.5 a tie, 2 the model wins, and anything between
Outcome = float | str  # a preference or a score, or the reason why there is none
Progress = Callable[[int, int], None]  # called with the number of finished calls and of all


@dataclass(frozen=True)
class PromptRow:
    """A prompt and what can be checked about its answer.

    Attributes:
        prompt: text, or the messages of a conversation that the answer continues.
        checks: `{"kind": …, **params}` each.
    """

    id: str
    prompt: Text
    checks: tuple[dict[str, Any], ...] = ()
    topic: str | None = None

    @property
    def text(self) -> str:
        """The prompt as one text, by which tables and files know it."""
        return as_text(self.prompt)


@dataclass(frozen=True)
class Answer:
    """A generated answer. `finished`: whether the model ended it by itself, before the limit on tokens."""

    text: str
    finished: bool
    tokens: int


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt, in the order in which a judge sees them."""

    row: PromptRow
    first: Answer
    second: Answer


@dataclass(frozen=True)
class Verdict:
    """A judge's preference between two answers.

    Attributes:
        preference: 1 the first wins, 1.5 a tie, 2 the second wins, or between; NaN where it is missing.
        orders: the preference with the first answer shown first, then with it shown second (both in the coding above);
            empty where the judge was not asked, one value where it sees one answer at a time.
        missing: why there is no preference; empty where there is one.
        members: of a panel, each judge's preference, NaN where it gave none.
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


class Judge(ABC):
    """Compares the answers of two models.

    Derive from `PairwiseJudge` (it sees both answers) or `ScoringJudge` (it sees one at a time) rather than from here.

    Attributes:
        name: identity of the judge, on every row of a table.
        prompt_hash: hash of its prompt template; empty without one.
        scores_answers: whether it has `scores`.
        needs_checks: whether it judges only prompts that carry checks.
        graded: whether its verdicts are Arena-Hard's, clear ones 1 and 2 and slight ones 1.25 and 1.75.
        members: of a panel, the names of its judges.
        draws_order: whether its verdicts have AlpacaEval's drawn order too.
        free: whether it asks no model, server or user's function, so that it may be run without being asked for.
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
        """Raise UserError where it cannot judge at all; called before anything expensive is done."""

    def forecast(self, comparisons: Sequence[Comparison]) -> str:
        """Return in words what the comparisons would cost; empty where they cost nothing worth a line."""
        return ""

    @abstractmethod
    def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
        """Return a verdict for each comparison, in order; a failed call is a missing verdict.

        Raises:
            UserError: the judge cannot judge at all.
        """

    def scores(self, answers: Sequence[tuple[PromptRow, Answer]], progress: Progress | None = None) -> list[Outcome]:
        """Return a score of each answer, higher is better, or the reason why there is none.

        Raises:
            TypeError: it sees both answers at once (`scores_answers` is false).
        """
        raise TypeError(f"judge {self.name} scores no single answers")


def plain_name(judge: str) -> str:
    """Return a judge's name as a recipe has it, without the hash of what it is made of."""
    return re.sub(r"@[0-9a-f]{8,}(?=,|$)", "", judge).replace("function:", "")
