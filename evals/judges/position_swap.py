"""Judges that see both answers. They judge each pair in both orders, since judges favour one position."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

from prefzoo.evals.judges.protocol import TIE, Comparison, Judge, Outcome, Progress, Verdict

FIRST, SECOND = 1.0, 2.0


class PairwiseJudge(Judge):
    """A judge that sees both answers at once. Identical answers tie without a call."""

    @abstractmethod
    def preferences(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Outcome]:
        """Return for each comparison a preference in [1, 2], or the reason for a missing one.

        1 prefers the comparison's first answer, 2 its second.
        """

    def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
        """Return the mean preference over both orders; it is missing if that of either order is.

        Raises:
            UserError: the judge cannot judge at all.
        """
        outcomes = iter(map(_in_range, self.preferences(both_orders(comparisons), progress)))
        return [
            Verdict(TIE) if c.first.text == c.second.text else _mean(next(outcomes), next(outcomes))
            for c in comparisons
        ]


def both_orders(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return each comparison of two different texts, followed by its copy with the answers swapped."""
    return [
        order
        for c in comparisons
        if c.first.text != c.second.text
        for order in (c, Comparison(c.row, c.second, c.first))
    ]  # fmt: skip


def _mean(straight: Outcome, swapped: Outcome) -> Verdict:
    """Return the mean of both orders; a single order would carry the judge's position bias."""
    if isinstance(straight, str) or isinstance(swapped, str):
        return Verdict(math.nan, (), straight if isinstance(straight, str) else str(swapped))
    swapped_back = FIRST + SECOND - swapped
    return Verdict((straight + swapped_back) / 2, (straight, swapped_back))


def _in_range(preference: Outcome) -> Outcome:
    if isinstance(preference, str) or FIRST <= preference <= SECOND:
        return preference
    return f"preference {preference} is outside [1, 2]"
