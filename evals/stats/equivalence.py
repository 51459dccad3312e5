"""Whether two variants are equal within a margin: two one-sided tests (Schuirmann 1987), and what would decide it.

Two variants that no test can tell apart need not be equal: there may be too few prompts. They are equal within a margin
if tests reject that the difference is at or below minus the margin, and that it is at or above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from scipy.stats import t as student

from prefzoo.evals.stats.inference import LARGE, LEVEL, TWO, seeded_gap
from prefzoo.evals.stats.intervals import Values
from prefzoo.evals.stats.planning import (
    ONE_SEED,
    SEEDS,
    Price,
    SamplePlan,
    Spread,
    default_price,
    rounded_up,
    spread_of,
)

ALPHA = 1 - LEVEL
PSEUDO = 4  # prompts, two won and two lost, that the spread of a difference is widened by (Agresti & Coull 1998)
ROUNDS = 20  # of the iteration for the number of prompts, which settles after two or three


@dataclass(frozen=True)
class Equality:
    """The test that a difference lies within a margin.

    Attributes:
        value: the mean difference.
        low, high: its 90% interval; at a level of 0.05 it lies within the margin exactly if the test says so.
        p: the larger p of the two one-sided tests; 1 if there are too few rows.
    """

    value: float
    low: float
    high: float
    p: float


def equality(a: Values, b: Values, margin: float, largest: float = 1.0) -> Equality:
    """Test that two variants are equal within a margin.

    The differences of few prompts may happen to be all alike, so that their spread says nothing of what the next
    prompt will show. The variance is therefore widened by four prompts more, two of each sign.

    Args:
        a: (seeds, prompts) shares of one variant.
        b: (seeds, prompts) of the other, over the same prompts; the seeds of the two are independent.
        margin: what counts as equal, a share.
        largest: how far apart the two can be on one prompt.

    Returns:
        The test. Prompts that lack a value are left out.
    """
    both = np.isfinite(a).all(0) & np.isfinite(b).all(0)
    n = int(both.sum())
    if n < TWO:
        return Equality(np.nan, np.nan, np.nan, 1.0)
    value, stderr, freedom = seeded_gap(a[:, both], b[:, both])
    stderr = float(np.hypot(stderr, np.sqrt(_widening(n, largest) / n)))
    reach = float(student.isf(ALPHA, freedom)) * stderr
    p = float(student.sf((margin - abs(value)) / stderr, freedom))
    return Equality(value, value - reach, value + reach, p)


def _widening(n: int, largest: float) -> float:
    return PSEUDO * largest**2 / (n + PSEUDO)


def plan_to_decide(
    a: Values, b: Values, margin: float, comparisons: int = 1, price: Price | None = None, largest: float = 1.0
) -> SamplePlan | None:  # fmt: skip
    """Plan the run after which two variants are equal within a margin or different, whatever the truth is.

    With a standard error under $m / (t_{different} + t_{equal})$ every difference is past one of the two critical
    values, so that none is undecided.

    Args:
        a: (seeds, prompts) shares of one variant.
        b: (seeds, prompts) of the other, over the same prompts.
        margin: what counts as equal, a share.
        comparisons: how many tests p is corrected for.
        price: what prompts and seeds cost, to choose between more of either; a guess unless given.
        largest: how far apart the two can be on one prompt.

    Returns:
        The cheapest plan; None if seeds vary so much that no number of prompts is enough.
    """
    both = np.isfinite(a).all(0) & np.isfinite(b).all(0)
    n, seeds = int(both.sum()), min(len(a), len(b))
    spread = spread_of(a, b) or Spread(0.0, 0.0, None)  # the widening is all there is
    known = spread.seeds is not None
    possible: list[tuple[int, int]] = []
    for s in (seeds, *(more for more in SEEDS if more > seeds)) if known else (ONE_SEED,):
        prompts = _prompts_to_decide(spread, s, margin, comparisons, largest)
        if prompts is not None:  # as many prompts and seeds as there are did not decide it
            possible.append((rounded_up(max(prompts, n + 1) if s == seeds else prompts), s))
    if not possible:
        return None
    prompts, best = min(possible, key=lambda c: (price or default_price)(*c))
    return SamplePlan(margin, prompts, best, known)


def _prompts_to_decide(spread: Spread, seeds: int, margin: float, comparisons: int, largest: float) -> int | None:
    """Return how many prompts leave nothing undecided; None if no number of them does."""
    prompts, alpha = 1000, ALPHA / max(1, comparisons)
    for _ in range(ROUNDS):
        freedom = min(spread.freedom(prompts, seeds), LARGE)
        critical = float(student.isf(alpha / 2, freedom) + student.isf(alpha, freedom))
        room = (margin / critical) ** 2 - (spread.seeds or 0.0) / seeds
        if room <= 0 or not np.isfinite(critical):
            return None
        over_prompts, added = spread.prompts + spread.rest / seeds, PSEUDO * largest**2  # of v / n + added / n^2
        needed = max(TWO + 1, ceil((over_prompts + sqrt(over_prompts**2 + 4 * added * room)) / (2 * room)))
        if abs(needed - prompts) <= prompts / 100:
            return needed
        prompts = needed
    return prompts
