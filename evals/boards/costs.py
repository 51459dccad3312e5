"""Costs of a run, and a forecast of its costs with more prompts and seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

HOUR, MINUTE, FEW = 3600, 60, 10


IN_BOARD = {"train_seconds": "seconds", "train_joules": "joules", "train_dollars": "dollars"}  # metric -> cost
PARTS = {"prompts": ("answers", "verdicts"), "pairs": ("pairs",)}  # parts of measuring whose time grows with the rows


def with_price(costs: Mapping[str, float], per_hour: float | None) -> dict[str, float]:
    """Add the price of a training, in `dollars`, to its costs.

    Args:
        costs: costs in `result.json`.
        per_hour: dollars per hour of the machine, with all its GPUs; None if the recipe names no price.

    Returns:
        The costs with `dollars`; unchanged without a price or without `seconds`.
    """
    if per_hour is None or "seconds" not in costs:
        return dict(costs)
    return {**costs, "dollars": per_hour * costs["seconds"] / HOUR}


@dataclass(frozen=True)
class RunCost:
    """Recorded time of one seed of all variants together.

    Attributes:
        fixed: seconds of training, and of the measurements that do not grow with the number of prompts or pairs.
        each: further seconds per prompt or pair; 0 if they were not recorded.
    """

    fixed: float
    each: float = 0.0

    def seconds(self, rows: int, seeds: int) -> float:
        """Forecast the seconds of a run with `rows` prompts or pairs and `seeds` seeds."""
        return seeds * (self.fixed + self.each * rows)

    def words(self, rows: int, seeds: int) -> str:
        """Return the forecast in words, like `about 3 hours`, and state if it does not count answers."""
        known = "" if self.each > 0 else " of training, answers not counted"
        return f"about {rounded(self.seconds(rows, seeds))}{known}"


def run_cost(costs: Mapping[str, Mapping[str, float]], variants: Mapping[str, str], rows: str) -> RunCost | None:
    """Add up the recorded time of one seed of all variants.

    Args:
        costs: costs of each model, by name: `seconds` of training, and those of measuring from `measuring_costs`.
        variants: variant of each model, by the model's name; a model is one seed of its variant.
        rows: kind of the rows, `prompts` or `pairs`.

    Returns:
        The time of one seed, averaged over the seeds of each variant; None if no training recorded its seconds.
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
    """Return a duration in words, rounded: `5 minutes`, `2.5 hours`, `12 hours`."""
    if seconds < HOUR:
        minutes = max(1, round(seconds / MINUTE))
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    hours = seconds / HOUR
    text = f"{hours:.1f}".removesuffix(".0") if hours < FEW else f"{hours:,.0f}"
    return f"{text} hour{'s' if text != '1' else ''}"
