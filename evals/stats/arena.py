"""The score of Arena-Hard 2 (arXiv:2406.11939): two games per prompt, in which a clear verdict counts three times."""

from __future__ import annotations

import numpy as np

from prefzoo.evals.stats.intervals import Values

CLEAR = 3  # weight of a clear verdict, in games


def arena_score(games: Values) -> Values:
    """Return one value per prompt. Their mean is the score, and their spread shows its uncertainty.

    The score is a ratio of sums over prompts; the values are its linear approximation.

    Args:
        games: (n, 2) results: 0 clearly lost, 0.25 slightly lost, 0.5 a tie, 0.75 slightly won, 1 clearly won; NaN
            where one is missing.

    Returns:
        (n,) values; NaN for prompts without both games.
    """
    weight = np.where(np.abs(games - 0.5) == 0.5, CLEAR, 1)  # noqa: PLR2004 - the two ends
    won = np.where(games > 0.5, 1.0, np.where(games < 0.5, 0.0, 0.5))  # noqa: PLR2004 - a tie
    seen = np.isfinite(games).all(1)
    if not seen.any():
        return np.full(len(games), np.nan)
    total = weight[seen].sum(1).mean()
    score = float((weight * won)[seen].sum(1).mean() / total)
    return np.where(seen, score + (weight * (won - score)).sum(1) / total, np.nan)
