"""What all judges share: identical answers tie unasked, both seat orders are asked, scores become preferences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from prefzoo.evals.judges.protocol import TIE, Answer, Comparison, PromptRow, Report, Scorer, Verdict

Said = float | str  # a preference in [1, 2] for the answer in the second seat, or why there is none
Ask = Callable[[Sequence[Comparison]], list[Said]]
FIRST, SECOND = 1.0, 2.0


def seatings(asked: Sequence[Comparison]) -> list[Comparison]:
    """What a judge has to be asked: each comparison of two different texts, and then the same with seats swapped."""
    return [
        order
        for c in asked
        if c.first.text != c.second.text
        for order in (c, Comparison(c.row, c.second, c.first))
    ]  # fmt: skip


def both_orders(asked: Sequence[Comparison], ask: Ask) -> list[Verdict]:
    """The mean of both orders; missing where either is: one order alone would carry the judge's liking for a seat."""
    said = iter(map(_checked, ask(seatings(asked))))
    return [Verdict(TIE) if c.first.text == c.second.text else _mean(next(said), next(said)) for c in asked]


def _mean(straight: Said, swapped: Said) -> Verdict:
    if isinstance(straight, str) or isinstance(swapped, str):
        return Verdict(math.nan, (), straight if isinstance(straight, str) else str(swapped))
    back = FIRST + SECOND - swapped
    return Verdict((straight + back) / 2, (straight, back))


def _checked(said: Said) -> Said:
    if isinstance(said, str) or FIRST <= said <= SECOND:
        return said
    return f"preference {said} is outside [1, 2]"


def by_scores(
    asked: Sequence[Comparison], scores: Sequence[tuple[Said, Said]], prefer: Callable[[float, float], float]
) -> list[Verdict]:
    """Verdicts from a score of each answer (or why there is none), seen one at a time; `prefer` gives [1, 2]."""
    return [
        Verdict(TIE) if c.first.text == c.second.text else _scored(one, two, prefer)
        for c, (one, two) in zip(asked, scores, strict=True)
    ]


def _scored(one: Said, two: Said, prefer: Callable[[float, float], float]) -> Verdict:
    for score in (one, two):
        if isinstance(score, str):
            return Verdict(math.nan, (), score)
        if not math.isfinite(score):
            return Verdict(math.nan, (), f"score {score} is not finite")
    preference = prefer(float(one), float(two))
    return Verdict(preference, (preference,))


def higher_wins(one: float, two: float) -> float:
    """The higher score wins whatever the distance."""
    return TIE + 0.5 * ((two > one) - (two < one))


def by_distance(one: float, two: float) -> float:
    """sigma(two - one): Bradley-Terry's probability that the second is better, where scores are its strengths."""
    return FIRST + (1 / (1 + math.exp(one - two)) if two > one else 1 - 1 / (1 + math.exp(two - one)))


class Scored:
    """A judge made of a scorer: the higher score wins."""

    prompt_hash = ""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.name = scorer.name

    def check(self) -> None:
        """A scorer is ready."""

    def forecast(self, asked: Sequence[Comparison]) -> str:
        """Nothing to pay, nothing to say."""
        return ""

    def compare(self, asked: Sequence[Comparison], report: Report | None = None) -> list[Verdict]:
        """Scores are compared; a tie is a tie."""
        scores: list[tuple[Said, Said]] = []
        for done, c in enumerate(asked, 1):
            scores.append((self.scorer.score(c.row, c.first), self.scorer.score(c.row, c.second)))
            if report:
                report(done, len(asked))
        return by_scores(asked, scores, higher_wins)

    def scores(self, asked: Sequence[tuple[PromptRow, Answer]], report: Report | None = None) -> list[Said]:
        """The scorer's, of each answer."""
        return [self.scorer.score(row, answer) for row, answer in asked]
