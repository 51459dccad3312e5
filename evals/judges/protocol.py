"""The one protocol of all judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

TIE = 1.5  # alpaca-eval's coding: 1 the baseline wins, 1.5 a tie, 2 the model wins, and anything between


@dataclass(frozen=True)
class PromptRow:
    """A prompt and what can be checked about its answer. `checks` are `{"kind": …, **params}`."""

    id: str
    prompt: str
    checks: tuple[dict[str, Any], ...] = ()
    topic: str | None = None


@dataclass(frozen=True)
class Answer:
    """A generated answer. `finished` says that the model ended it by itself, before the limit on tokens."""

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
        preference: 1 the first wins, 1.5 a tie, 2 the second wins, or between; NaN where there is none.
        orders: the preference as said with the first answer seen first, then with it seen second (both in the coding
            above); empty where the judge was not asked, one value where it sees one answer at a time.
        missing: why there is none.
    """

    preference: float
    orders: tuple[float, ...] = ()
    missing: str = ""

    def __post_init__(self) -> None:
        if math.isnan(self.preference) != bool(self.missing):
            raise ValueError(f"preference {self.preference} with reason {self.missing!r}: one goes without the other")


Report = Callable[[int, int], None]  # how many calls are done, of how many


class Judge(Protocol):
    """Compares the answers of two models. Every kind of judge is one of these."""

    @property
    def name(self) -> str:
        """Identity of the judge, as it stands on every row of a table."""

    @property
    def prompt_hash(self) -> str:
        """Of the prompt's template; empty for a judge that has none."""

    def check(self) -> None:
        """Raises UserError where it cannot judge at all; asked before anything expensive is done."""

    def forecast(self, asked: Sequence[Comparison]) -> str:
        """What comparing would take, in words; empty where it costs nothing to say nothing."""

    def compare(self, asked: Sequence[Comparison], report: Report | None = None) -> list[Verdict]:
        """One verdict for each comparison, in order. What cannot be had is a missing verdict, never an exception."""


@runtime_checkable
class Grader(Protocol):
    """A judge that sees one answer at a time; what it prefers follows from its scores."""

    def scores(self, asked: Sequence[tuple[PromptRow, Answer]], report: Report | None = None) -> list[float | str]:
        """Of each answer, on the judge's own scale, higher is better; or why there is none."""


class Scorer(Protocol):
    """Scores one answer in [0, 1]; equal scores are a tie. `judges.seats.Scored` makes a judge of it."""

    @property
    def name(self) -> str:
        """Identity of the scorer."""

    def score(self, row: PromptRow, answer: Answer) -> float:
        """How good the answer is, from 0 to 1."""
