"""CHES scores of pairs: how alike a model sees the two answers, which tells where training lowers the chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHOWN = 10  # pairs of the highest scores


@dataclass(frozen=True)
class Ches:
    """Centred hidden embedding similarity of each pair (Razin 2024, arXiv:2410.08847, section 4).

    With S+ and S- the sums of the last hidden states that predict the scored tokens of chosen and rejected, the score
    is <S+, S-> - |S+|^2; normalised, both sums are divided by their number of tokens. The higher, the more likely is
    training on the pair to lower the chosen answer's probability.

    Attributes:
        rows: number of each pair's row, from 1.
        scores, normalised: of each pair.
    """

    rows: tuple[int, ...]
    scores: tuple[float, ...]
    normalised: tuple[float, ...]

    @property
    def highest(self) -> list[tuple[int, float]]:
        """The rows of the highest normalised scores, with these."""
        order = np.argsort(-np.asarray(self.normalised), kind="stable")[:SHOWN]
        return [(self.rows[i], self.normalised[i]) for i in order.tolist()]

    @property
    def quartiles(self) -> Sequence[float]:
        """The three quartiles of the normalised scores."""
        values: list[float] = np.quantile(self.normalised, (0.25, 0.5, 0.75)).tolist()
        return values

    @property
    def lines(self) -> list[str]:
        """The scores in words."""
        first, median, third = self.quartiles
        top = ", ".join(f"{row} ({score:.3g})" for row, score in self.highest)
        return [
            f"CHES of {len(self.rows):,} pairs, normalised by length: median {median:.3g}, half of them from "
            f"{first:.3g} to {third:.3g}",
            f"the highest, whose chosen answers training is likeliest to make less likely: rows {top}",
        ]
