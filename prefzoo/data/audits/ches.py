"""CHES scores of pairs, which predict where training lowers the probability of the chosen answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHOWN = 10  # pairs that are listed, from the highest score down


@dataclass(frozen=True)
class Ches:
    """Centred hidden embedding similarity of each pair (Razin 2024, arXiv:2410.08847, section 4).

    Let S+ and S- be the sums of the last-layer hidden states that predict the scored tokens of chosen and rejected. The
    score is <S+, S-> - |S+|^2; for the normalised score, each sum is divided by its number of tokens. The higher the
    score, the more likely training on the pair lowers the probability of the chosen answer.

    Attributes:
        rows: the number of each pair's row, from 1.
        scores: the score of each pair.
        normalised: the normalised score of each pair.
    """

    rows: tuple[int, ...]
    scores: tuple[float, ...]
    normalised: tuple[float, ...]

    @property
    def highest(self) -> list[tuple[int, float]]:
        """(row, normalised score) of the `SHOWN` pairs with the highest normalised scores, highest first."""
        order = np.argsort(-np.asarray(self.normalised), kind="stable")[:SHOWN]
        return [(self.rows[i], self.normalised[i]) for i in order.tolist()]

    @property
    def quartiles(self) -> Sequence[float]:
        """The three quartiles of the normalised scores."""
        values: list[float] = np.quantile(self.normalised, (0.25, 0.5, 0.75)).tolist()
        return values

    @property
    def lines(self) -> list[str]:
        """Two lines for users: the distribution of the scores, and the rows with the highest ones."""
        first, median, third = self.quartiles
        top = ", ".join(f"{row} ({score:.3g})" for row, score in self.highest)
        return [
            f"CHES of {len(self.rows):,} pairs, normalised by length: median {median:.3g}, half of them from "
            f"{first:.3g} to {third:.3g}",
            f"highest scores, where training most likely lowers the chosen answer's probability: rows {top}",
        ]
