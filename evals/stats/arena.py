"""The score of Arena-Hard 2 (arXiv:2406.11939): two games a prompt, a clear verdict counted as three."""

from __future__ import annotations

import numpy as np

from prefzoo.evals.stats.intervals import Values

CLEAR = 3  # games that a clear verdict counts as


def arena_score(games: Values) -> Values:
    """Return one value per prompt, whose mean is the score and whose spread between prompts is its uncertainty.

    Args:
        games: (n, 2) results from 0 (clearly lost) over 0.25, 0.5 and 0.75 to 1 (clearly won); NaN where one is
            missing. Only prompts with both games count.

    Returns:
        (n,) values, NaN without games. The score is a ratio of sums, so each is linearised about it.
    """
    weight = np.where(np.abs(games - 0.5) == 0.5, CLEAR, 1)  # noqa: PLR2004 - the two ends
    won = np.where(games > 0.5, 1.0, np.where(games < 0.5, 0.0, 0.5))  # noqa: PLR2004 - a tie
    seen = np.isfinite(games).all(1)
    if not seen.any():
        return np.full(len(games), np.nan)
    total = weight[seen].sum(1).mean()
    score = float((weight * won)[seen].sum(1).mean() / total)
    return np.where(seen, score + (weight * (won - score)).sum(1) / total, np.nan)
