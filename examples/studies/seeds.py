"""What the seed of a training moves, beside what its loss moves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prefzoo.evals.boards.selection import Entry
from prefzoo.evals.stats.intervals import Values
from prefzoo.evals.stats.rank_correlation import rank_correlation

TWICE = 2
ENDED = "finished"  # the share of answers that ended before the longest length that was allowed


def seed_effects(values: Mapping[str, Values], entries: Sequence[Entry], metric: str, scale: float) -> dict[str, Any]:
    """Return how far seeds and losses move a metric, and whether it follows the share of answers that ended.

    Args:
        values: (seeds, prompts) rows by variant.
        entries: every trained model.
        metric: what ranks.
        scale: by which values are multiplied; 100 for points.

    Returns:
        `seeds`: the mean over losses for each seed; `between_seeds` and `between_losses`: standard deviations of such
        means, None with one seed; `ended`: Spearman's correlation over trained models with the share of answers that
        ended.
    """
    means = scale * np.stack([own.mean(1) for own in values.values()])  # (losses, seeds)
    ended = rank_correlation(*(np.array([e.value(name) for e in entries]) for name in (metric, ENDED)))
    return {
        "seeds": [{"seed": seed, "value": float(mean)} for seed, mean in enumerate(means.mean(0))],
        "between_seeds": _deviation(means.mean(0)), "between_losses": _deviation(means.mean(1)),
        "ended": {
            "rho": finite(ended.value), "low": finite(ended.low), "high": finite(ended.high), "models": len(entries),
        },
    }  # fmt: skip


def steadiness(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the names of the variants that seeds move more than twice as far as prompts do, and of the others.

    Args:
        rows: of each variant `spread_over_seeds` (None with one seed) and `error_over_prompts`.
    """
    moved = [r["variant"] for r in rows if (r["spread_over_seeds"] or 0) > TWICE * r["error_over_prompts"]]
    steady = [r["variant"] for r in rows if r["variant"] not in moved]
    return {"unsteady": ", ".join(moved) or "none", "steady": ", ".join(steady) or "none"}


def _deviation(means: Values) -> float | None:
    return float(means.std(ddof=1)) if len(means) > 1 else None


def finite(value: float) -> float | None:
    """Return a value, or None for NaN, which JSON does not have."""
    return value if math.isfinite(value) else None
