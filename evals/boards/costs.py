"""What a run took, and what more prompts and seeds of it would take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

HOUR, MINUTE, FEW = 3600, 60, 10


IN_BOARD = {"train_seconds": "seconds", "train_joules": "joules", "train_dollars": "dollars"}  # metrics of costs
PARTS = {"prompts": ("answers", "verdicts"), "pairs": ("pairs",)}  # of measuring that grow with the rows


def with_price(costs: Mapping[str, float], per_hour: float | None) -> dict[str, float]:
    """Return the costs of a training with what it cost in `dollars`.

    Args:
        costs: as `result.json` has them.
        per_hour: dollars of the machine, with all its GPUs; None where the recipe names no price.

    Returns:
        The costs; without a price, as they were.
    """
    if per_hour is None or "seconds" not in costs:
        return dict(costs)
    return {**costs, "dollars": per_hour * costs["seconds"] / HOUR}


@dataclass(frozen=True)
class RunCost:
    """What one seed of all variants took, as the run recorded it.

    Attributes:
        fixed: seconds of training, and of measuring what does not grow with the number of prompts or pairs.
        each: seconds that each prompt or pair takes; 0 if they were not recorded.
    """

    fixed: float
    each: float = 0.0

    def seconds(self, rows: int, seeds: int) -> float:
        """Return what so many prompts or pairs and seeds take."""
        return seeds * (self.fixed + self.each * rows)

    def words(self, rows: int, seeds: int) -> str:
        """Return `about 3 hours`, and that answers are not in it where their time was not recorded."""
        known = "" if self.each > 0 else " of training, answers not counted"
        return f"about {rounded(self.seconds(rows, seeds))}{known}"


def run_cost(costs: Mapping[str, Mapping[str, float]], variants: Mapping[str, str], rows: str) -> RunCost | None:
    """Put together what a run took.

    Args:
        costs: of each model, by its name: `seconds` of training, and of measuring as `measuring_costs` has them.
        variants: the variant of each model, which is a seed of it.
        rows: what the rows are, `prompts` or `pairs`.

    Returns:
        The costs; None if no training recorded any.
    """
    trained = {name: cost for name, cost in costs.items() if "seconds" in cost and name in variants}
    if not trained:
        return None
    growing = [f"measuring {part}" for part in PARTS.get(rows, ())]

    def one_seed(of: Callable[[Mapping[str, float]], float]) -> float:
        arms = dict.fromkeys(variants[name] for name in trained)
        return sum(fmean(of(cost) for name, cost in trained.items() if variants[name] == arm) for arm in arms)

    def fixed(cost: Mapping[str, float]) -> float:
        return cost["seconds"] + sum(v for k, v in cost.items() if k.startswith("measuring ") and k not in growing)

    def each(cost: Mapping[str, float]) -> float:
        return sum(cost[k] / cost[k.replace("measuring", "rows", 1)] for k in growing if k in cost)

    return RunCost(one_seed(fixed), one_seed(each))


def rounded(seconds: float) -> str:
    """Return a duration as a person rounds it."""
    if seconds < HOUR:
        minutes = max(1, round(seconds / MINUTE))
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    hours = seconds / HOUR
    text = f"{hours:.1f}".removesuffix(".0") if hours < FEW else f"{hours:,.0f}"
    return f"{text} hour{'s' if text != '1' else ''}"
