"""Build pairs from several rated answers to one prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from prefzoo.data.examples import Example, Pair
from prefzoo.data.rows import Row
from prefzoo.data.schemas.build import build_pair
from prefzoo.data.schemas.notes import SkipRow, TiedRow, note

Pairs = Literal["best_worst", "ranked"]
BEST_AND_WORST = "made of the best and the worst of several answers"
NONE_ABOVE = "no answer is rated above another"
RANKED = "made of two of several answers that are rated differently"


@dataclass(frozen=True)
class Rated:
    """An answer with its rating; a higher score is better."""

    answer: Any
    score: float


@dataclass(frozen=True)
class RatedAnswers:
    """Several rated answers to one prompt.

    Attributes:
        row, index: the row that they are from, and its index.
        prompt: the cell with the prompt.
        answers: the answers that have a rating.
        scores: whether a loss may read the ratings as scores; False if they are ranks.
    """

    row: Row
    index: int
    prompt: Any
    answers: Sequence[Rated]
    scores: bool = True

    def pairs(self, which: Pairs) -> list[Pair]:
        """Build pairs of the answers.

        Args:
            which: `best_worst` for one pair of the best and the worst answer (of equal ones, the first); `ranked` for a
                pair of every two answers with different ratings (Ouyang 2022, arXiv:2203.02155, section 3.5).

        Returns:
            The pairs, ordered by the rank of the chosen answer, then by that of the rejected one.

        Raises:
            TiedRow: all answers have the same rating.
            SkipRow: there are fewer than two answers.
            UserError: see `build_pair`.
        """
        best_first = sorted(self.answers, key=lambda one: -one.score)
        ordered = [(a, b) for a, b in combinations(best_first, 2) if a.score > b.score]
        if not ordered and len(best_first) > 1:
            raise TiedRow(lambda: next(self._built([(best_first[0], best_first[1])])), NONE_ABOVE)
        if not ordered:
            raise SkipRow(NONE_ABOVE)
        if which == "best_worst":
            worst = next(one for one in best_first if one.score == best_first[-1].score)
            ordered = [(best_first[0], worst)]
        for _ in ordered if len(self.answers) > len(ordered[0]) else ():
            note(BEST_AND_WORST if which == "best_worst" else RANKED)
        return list(self._built(ordered))

    def _built(self, ordered: Sequence[tuple[Rated, Rated]]) -> Iterator[Pair]:
        for good, bad in ordered:
            scores = (good.score, bad.score) if self.scores else None
            yield build_pair(self.row, self.index, self.prompt, good.answer, bad.answer, scores)


FromRow = Example | RatedAnswers
