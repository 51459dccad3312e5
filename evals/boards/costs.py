"""What a run took, and what more prompts and seeds of it would take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

HOUR, MINUTE, FEW = 3600, 60, 10


@dataclass(frozen=True)
class RunCost:
    """What a run took, as it recorded it.

    Attributes:
        training: seconds of one seed of all variants.
        measuring: seconds of answers, verdicts and held-out pairs of all variants; 0 if they were not recorded.
        rows: how many prompts or pairs were measured.
    """

    training: float
    measuring: float = 0.0
    rows: int = 0

    def seconds(self, prompts: int, seeds: int) -> float:
        """Return what so many prompts and seeds take."""
        each = self.measuring / self.rows if self.rows else 0.0
        return seeds * (self.training + each * prompts)

    def words(self, prompts: int, seeds: int) -> str:
        """Return `about 3 hours`, and that answers are not in it where their time was not recorded."""
        known = self.measuring > 0 and self.rows > 0
        return f"about {rounded(self.seconds(prompts, seeds))}" + ("" if known else " of training, answers not counted")


def run_cost(
    costs: Mapping[str, Mapping[str, float]], variants: Mapping[str, str], measuring: Mapping[str, float], rows: int
) -> RunCost | None:
    """Put together what a run took.

    Args:
        costs: of each training, by the model's name.
        variants: the variant of each model, which is a seed of it.
        measuring: seconds that each model's measurement took, by its name.
        rows: how many prompts or pairs were measured.

    Returns:
        The costs; None if no training recorded any.
    """

    def one_seed(seconds: Mapping[str, float]) -> float:
        of = {arm: [s for name, s in seconds.items() if variants.get(name) == arm] for arm in set(variants.values())}
        return sum(fmean(several) for several in of.values() if several)

    training = {name: cost["seconds"] for name, cost in costs.items() if "seconds" in cost}
    return RunCost(one_seed(training), one_seed(measuring), rows) if training else None


def rounded(seconds: float) -> str:
    """Return a duration as a person rounds it."""
    if seconds < HOUR:
        minutes = max(1, round(seconds / MINUTE))
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    hours = seconds / HOUR
    text = f"{hours:.1f}".removesuffix(".0") if hours < FEW else f"{hours:,.0f}"
    return f"{text} hour{'s' if text != '1' else ''}"
