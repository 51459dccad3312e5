"""How many prompts and seeds it takes to tell two variants apart, from the spread that a run itself shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import ceil, inf, log10

import numpy as np

from prefzoo.evals.stats.inference import TWO, detectable_by
from prefzoo.evals.stats.intervals import Values

TARGETS = (0.05, 0.02, 0.01)  # differences of shares that a plan is made for: the first that a run could not see
ONE_SEED = 3  # seeds to plan for where one seed does not show how much seeds vary
SEEDS = (2, 3, 4, 5, 6, 8, 10, 15, 20)  # tried where a run shows how much seeds vary
TRAINING = 1000  # prompts whose answers cost as much as a training, where nothing is known of costs
DIGITS = 2  # significant ones of a number of prompts
MANY = 1000  # degrees of freedom, from which on a t test is a normal one
ROUNDS = 20  # of the iteration for the number of prompts, which settles after two or three


@dataclass(frozen=True)
class Spread:
    """Where the variance of a difference between two variants comes from.

    Attributes:
        prompts: variance over prompts of the difference, of seeds without limit.
        rest: variance of both variants that neither prompts nor seeds explain; it shrinks with both numbers.
        seeds: variance of both variants' seed means over prompts without limit; None if there was one seed.
    """

    prompts: float
    rest: float
    seeds: float | None

    def stderr(self, prompts: int, seeds: int) -> float:
        """Return the standard error of the difference with so many prompts and seeds."""
        over_prompts = (self.prompts + self.rest / seeds) / prompts
        return float(np.sqrt(over_prompts + (self.seeds or 0.0) / seeds))

    def freedom(self, prompts: int, seeds: int) -> float:
        """Return Satterthwaite's degrees of freedom of that standard error."""
        over_prompts, over_seeds = (self.prompts + self.rest / seeds) / prompts, (self.seeds or 0.0) / seeds
        weight = over_prompts**2 / max(1, prompts - 1) + over_seeds**2 / max(1, 2 * (seeds - 1))
        return (over_prompts + over_seeds) ** 2 / weight if weight else inf


@dataclass(frozen=True)
class SamplePlan:
    """What would show a difference four times in five.

    Attributes:
        difference: the difference, a share.
        prompts: how many prompts (or pairs), rounded up to two digits.
        seeds: how many seeds of each variant.
        seeds_known: whether the run shows how much seeds vary.
    """

    difference: float
    prompts: int
    seeds: int
    seeds_known: bool


Price = Callable[[int, int], float]  # (prompts, seeds) -> what they cost


def spread_of(a: Values, b: Values) -> Spread | None:
    """Split the variance of the difference between two variants.

    Args:
        a: (seeds, prompts) of one variant.
        b: (seeds, prompts) of the other, over the same prompts.

    Returns:
        The parts; None if too few prompts have both values, or no prompt tells the two apart.
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
    """Return the mean square of what neither seeds nor prompts explain."""
    seeds, n = values.shape
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((seeds - 1) * (n - 1)))


def typical_spread(values: Mapping[str, Values]) -> Spread | None:
    """Return the median parts over every two variants.

    Args:
        values: (seeds, prompts) by variant, over the same prompts.

    Returns:
        The parts; None if no two variants can be told apart on any prompt.
    """
    parts = [s for a, b in combinations(values.values(), 2) if (s := spread_of(a, b)) is not None]
    if not parts:
        return None
    known = [s.seeds for s in parts if s.seeds is not None]
    prompts, rest = (float(np.median([getattr(s, part) for s in parts])) for part in ("prompts", "rest"))
    return Spread(prompts, rest, float(np.median(known)) if len(known) == len(parts) else None)


def plan(values: Mapping[str, Values], price: Price | None = None) -> SamplePlan | None:
    """Plan the run that would show a difference which this one could not.

    Args:
        values: (seeds, prompts) shares by variant, over the same prompts; all two by two are compared.
        price: what prompts and seeds cost, to choose between more of either; a guess unless given.

    Returns:
        The cheapest plan, for the first of `TARGETS` that the run at hand would mostly have missed; None if there is
        nothing to compare, or it missed none of them.
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
    """Return what prompts and seeds cost where nothing is known of costs, in answers."""
    return seeds * (prompts + TRAINING)


def prompts_for(spread: Spread, seeds: int, target: float, comparisons: int) -> int | None:
    """Work out how many prompts show a difference four times in five.

    Args:
        spread: of the difference between two variants.
        seeds: of each variant.
        target: the difference, a share.
        comparisons: how many tests p is corrected for.

    Returns:
        The number; None if seeds vary so much that no number of prompts is enough.
    """
    prompts = 1000
    for _ in range(ROUNDS):
        freedom = min(spread.freedom(prompts, seeds), MANY)
        factor = detectable_by(1.0, float(f"{freedom:.{DIGITS}g}"), comparisons)  # rounded: few values to work out
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
