"""Judges that score one answer at a time; preferences follow from the scores."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence

from prefzoo.evals.judges.position_swap import FIRST
from prefzoo.evals.judges.protocol import TIE, Answer, Comparison, Judge, Outcome, Progress, PromptRow, Verdict


class ScoringJudge(Judge):
    """A judge that scores one answer at a time, so that the order of answers cannot matter."""

    scores_answers = True

    @abstractmethod
    def scores(self, answers: Sequence[tuple[PromptRow, Answer]], progress: Progress | None = None) -> list[Outcome]:
        """Return a score of each answer, higher is better, or the reason for a missing one. Any scale will do."""

    def prefer(self, first: float, second: float) -> float:
        """Return the preference in [1, 2] for two scores. By default the higher score wins."""
        return higher_wins(first, second)

    def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
        """Return a verdict for each comparison; it is missing if either score is missing.

        Raises:
            UserError: the judge cannot judge at all.
        """
        scores = self.scores([(c.row, answer) for c in comparisons for answer in (c.first, c.second)], progress)
        return by_scores(comparisons, list(zip(scores[::2], scores[1::2], strict=True)), self.prefer)


def by_scores(
    comparisons: Sequence[Comparison],
    scores: Sequence[tuple[Outcome, Outcome]],
    prefer: Callable[[float, float], float],
) -> list[Verdict]:
    """Turn scores into verdicts.

    Args:
        comparisons: the compared answers; identical ones tie.
        scores: the scores of the first and the second answer of each comparison.
        prefer: maps the two scores to a preference in [1, 2].

    Returns:
        A verdict for each comparison, in order.
    """
    return [
        Verdict(TIE) if c.first.text == c.second.text else _verdict(first, second, prefer)
        for c, (first, second) in zip(comparisons, scores, strict=True)
    ]


def _verdict(first: Outcome, second: Outcome, prefer: Callable[[float, float], float]) -> Verdict:
    for score in (first, second):
        if isinstance(score, str):
            return Verdict(math.nan, (), score)
        if not math.isfinite(score):
            return Verdict(math.nan, (), f"score {score} is not finite")
    preference = prefer(float(first), float(second))
    return Verdict(preference, (preference,))


def higher_wins(first: float, second: float) -> float:
    """Return 1, 1.5 or 2: the higher score wins by any difference, and equal scores tie."""
    return TIE + 0.5 * ((second > first) - (second < first))


def bradley_terry(first: float, second: float) -> float:
    """Return 1 + sigma(second - first): 1 plus the Bradley-Terry probability that the second answer is better."""
    if second > first:
        return FIRST + 1 / (1 + math.exp(first - second))
    return FIRST + (1 - 1 / (1 + math.exp(second - first)))
