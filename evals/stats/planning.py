"""Plan how many prompts and seeds are needed to tell two variants apart, from the spread in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import ceil, inf, log10

import numpy as np

from prefzoo.evals.stats.inference import TWO, detectable_by
from prefzoo.evals.stats.intervals import Values

TARGETS = (0.05, 0.02, 0.01)  # differences of shares; a plan is for the largest that the run could not detect
ONE_SEED = 3  # seeds of a plan, if a run of one seed does not show how much seeds vary
SEEDS = (2, 3, 4, 5, 6, 8, 10, 15, 20)  # numbers of seeds to choose from, if the run shows how much they vary
TRAINING = 1000  # assumed cost of a training, in answers, if costs are unknown
DIGITS = 2  # significant digits of a number of prompts
MANY = 1000  # degrees of freedom above which a t test is practically a normal test
ROUNDS = 20  # most iterations for the number of prompts, which converges in two or three


@dataclass(frozen=True)
class Spread:
    """Variance components of the difference between two variants.

    Attributes:
        prompts: variance of the difference over prompts, for infinitely many seeds.
        rest: residual variance, summed over both variants; its effect shrinks with the numbers of prompts and seeds.
        seeds: variance over seeds of the mean over infinitely many prompts, summed over both variants; None for one
            seed.
    """

    prompts: float
    rest: float
    seeds: float | None

    def stderr(self, prompts: int, seeds: int) -> float:
        """Return the standard error of the difference for a number of prompts and of seeds."""
        over_prompts = (self.prompts + self.rest / seeds) / prompts
        return float(np.sqrt(over_prompts + (self.seeds or 0.0) / seeds))

    def freedom(self, prompts: int, seeds: int) -> float:
        """Return Satterthwaite's degrees of freedom of that standard error."""
        over_prompts, over_seeds = (self.prompts + self.rest / seeds) / prompts, (self.seeds or 0.0) / seeds
        weight = over_prompts**2 / max(1, prompts - 1) + over_seeds**2 / max(1, 2 * (seeds - 1))
        return (over_prompts + over_seeds) ** 2 / weight if weight else inf


@dataclass(frozen=True)
class SamplePlan:
    """A run that detects a difference with a power of 80%.

    Attributes:
        difference: the difference, a share.
        prompts: number of prompts (or pairs), rounded up to two significant digits.
        seeds: number of seeds of each variant.
        seeds_known: whether the run shows how much seeds vary.
    """

    difference: float
    prompts: int
    seeds: int
    seeds_known: bool


Price = Callable[[int, int], float]  # (prompts, seeds) -> cost, in any unit


def spread_of(a: Values, b: Values) -> Spread | None:
    """Estimate the variance components of the difference between two variants.

    Args:
        a: (seeds, prompts) values of one variant.
        b: (seeds, prompts) values of the other variant, on the same prompts.

    Returns:
        The components; None if too few prompts have both values, or the difference is the same on all prompts.
    """
    both = np.isfinite(a).all(0) & np.isfinite(b).all(0)
    a, b = a[:, both], b[:, both]
    gap = a.mean(0) - b.mean(0)
    if len(gap) <= TWO or np.ptp(gap) == 0:
        return None
    total = float(gap.var(ddof=1))
    if min(len(a), len(b)) < TWO:
        return Spread(total, 0.0, None)
    rest = [_rest(values) for values in (a, b)]
    seeds = [max(0.0, float(v.mean(1).var(ddof=1)) - r / v.shape[1]) for v, r in zip((a, b), rest, strict=True)]
    prompts = max(0.0, total - sum(r / len(v) for v, r in zip((a, b), rest, strict=True)))
    return Spread(prompts, sum(rest), sum(seeds))


def _rest(values: Values) -> float:
    """Return the residual variance, which neither seeds nor prompts explain."""
    seeds, n = values.shape
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((seeds - 1) * (n - 1)))


def typical_spread(values: Mapping[str, Values]) -> Spread | None:
    """Return the median variance components over all pairs of variants.

    Args:
        values: (seeds, prompts) values of each variant, on the same prompts.

    Returns:
        The components; None if no pair has any (see `spread_of`).
    """
    parts = [s for a, b in combinations(values.values(), 2) if (s := spread_of(a, b)) is not None]
    if not parts:
        return None
    known = [s.seeds for s in parts if s.seeds is not None]
    prompts, rest = (float(np.median([getattr(s, part) for s in parts])) for part in ("prompts", "rest"))
    return Spread(prompts, rest, float(np.median(known)) if len(known) == len(parts) else None)


def plan(values: Mapping[str, Values], price: Price | None = None) -> SamplePlan | None:
    """Plan a run that detects a smaller difference than the present one can.

    Args:
        values: (seeds, prompts) shares of each variant, on the same prompts. All pairs of variants are compared.
        price: the cost of a number of prompts and seeds, by which the cheapest plan is chosen; None for a guess.

    Returns:
        The cheapest plan, for the largest of `TARGETS` that the present run cannot detect; None if there is nothing to
        compare, the run can detect all of them, or no number of prompts is enough.
    """
    spread = typical_spread(values)
    if spread is None:
        return None
    comparisons = len(values) * (len(values) - 1) // 2
    n, seeds = max(v.shape[1] for v in values.values()), min(len(v) for v in values.values())
    at_hand = detectable_by(spread.stderr(n, seeds), spread.freedom(n, seeds), comparisons)
    target = next((t for t in TARGETS if t < at_hand), None)
    if target is None:
        return None
    known = spread.seeds is not None
    choices = [(prompts_for(spread, s, target, comparisons), s) for s in (SEEDS if known else (ONE_SEED,))]
    possible = [(rounded_up(p), s) for p, s in choices if p is not None]
    if not possible:
        return None
    prompts, best = min(possible, key=lambda c: (price or default_price)(*c))
    return SamplePlan(target, prompts, best, known)


def default_price(prompts: int, seeds: int) -> float:
    """Return a guess of the cost of prompts and seeds, in answers."""
    return seeds * (prompts + TRAINING)


def prompts_for(spread: Spread, seeds: int, target: float, comparisons: int) -> int | None:
    """Return the number of prompts with which a test detects a difference with a power of 80%.

    Args:
        spread: variance components of the difference between two variants.
        seeds: number of seeds of each variant.
        target: the difference, a share.
        comparisons: the number of tests for which p is corrected.

    Returns:
        The number; None if seeds vary so much that no number of prompts is enough.
    """
    prompts = 1000
    for _ in range(ROUNDS):
        freedom = min(spread.freedom(prompts, seeds), MANY)
        factor = detectable_by(1.0, float(f"{freedom:.{DIGITS}g}"), comparisons)  # rounded, to reuse cached values
        room = (target / factor) ** 2 - (spread.seeds or 0.0) / seeds
        if room <= 0:
            return None
        needed = max(TWO + 1, ceil((spread.prompts + spread.rest / seeds) / room))
        if abs(needed - prompts) <= prompts / 100:
            return needed
        prompts = needed
    return prompts


def rounded_up(number: int) -> int:
    """Return a number rounded up to two significant digits."""
    step = int(10 ** max(0, int(log10(number)) + 1 - DIGITS))
    return -(-number // step) * step
