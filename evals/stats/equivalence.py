"""Test whether two variants are equal within a margin, and plan the run that would decide it.

Two variants that no test can tell apart need not be equal, since there may be too few prompts. Two one-sided tests
(Schuirmann 1987) show equality within a margin: one rejects that the difference is at or below minus the margin, the
other that it is at or above the margin.
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
PSEUDO = 4  # added prompts, two won and two lost, that widen the spread of a difference (Agresti & Coull 1998)
ROUNDS = 20  # most iterations for the number of prompts, which converges in two or three


@dataclass(frozen=True)
class Equality:
    """The test that a difference lies within a margin.

    Attributes:
        value: the mean difference.
        low, high: its 90% interval. It lies within the margin exactly if p is below 0.05.
        p: the larger p of the two one-sided tests; 1 if there are too few prompts.
    """

    value: float
    low: float
    high: float
    p: float


def equality(a: Values, b: Values, margin: float, largest: float = 1.0) -> Equality:
    """Test that two variants are equal within a margin.

    On few prompts the differences may all happen to be equal, and their spread would be too small. The variance
    therefore includes four added prompts, two of each sign.

    Args:
        a: (seeds, prompts) shares in [0, 1] of one variant. Prompts that lack a value of either variant are left out.
        b: (seeds, prompts) shares of the other on the same prompts; the seeds of the two variants are independent.
        margin: the largest difference that counts as equal, a share.
        largest: the largest possible difference on one prompt.

    Returns:
        The result of the test.
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
    """Plan the run that will find two variants either different or equal within a margin.

    With a standard error below $m / (t_{different} + t_{equal})$, for margin m and the critical values t of both tests,
    every difference passes at least one of the two tests.

    Args:
        a: (seeds, prompts) shares in [0, 1] of one variant.
        b: (seeds, prompts) shares of the other, on the same prompts.
        margin: the largest difference that counts as equal, a share.
        comparisons: the number of tests for which p is corrected.
        price: the cost of a number of prompts and seeds, by which the cheapest plan is chosen; None for a guess.
        largest: the largest possible difference on one prompt.

    Returns:
        The cheapest plan; None if seeds vary so much that no number of prompts is enough.
    """
    both = np.isfinite(a).all(0) & np.isfinite(b).all(0)
    n, seeds = int(both.sum()), min(len(a), len(b))
    spread = spread_of(a, b) or Spread(0.0, 0.0, None)  # equal on all prompts: only the added ones count
    known = spread.seeds is not None
    possible: list[tuple[int, int]] = []
    for s in (seeds, *(more for more in SEEDS if more > seeds)) if known else (ONE_SEED,):
        prompts = _prompts_to_decide(spread, s, margin, comparisons, largest)
        if prompts is not None:  # the present number of prompts and seeds did not decide it
            possible.append((rounded_up(max(prompts, n + 1) if s == seeds else prompts), s))
    if not possible:
        return None
    prompts, best = min(possible, key=lambda c: (price or default_price)(*c))
    return SamplePlan(margin, prompts, best, known)


def _prompts_to_decide(spread: Spread, seeds: int, margin: float, comparisons: int, largest: float) -> int | None:
    """Return the number of prompts after which one of the tests decides; None if no number is enough."""
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
