"""Ranks that are shared within noise, and what may be said of the variant that leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prefzoo.evals.metrics.registry import Metric
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Difference

ALPHA = 0.05
TIES = 5  # variants that a sentence names
HALF = 0.5  # the base against itself


class WithInterval(Protocol):
    """A value with its 95% interval."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True)
class Ranking:
    """Variants in an order, and which of them can be told apart.

    Attributes:
        order: best first.
        ranks: 1 + the number of variants that are better and can be told apart.
        differences: of every two in alphabetical order, the first less the second.
        p: of "no difference", corrected after Holm.
        paired: whether the differences are over the same prompts, pairs or documents.
    """

    order: Sequence[str] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)
    differences: Mapping[tuple[str, str], Difference] = field(default_factory=dict)
    p: Mapping[tuple[str, str], float] = field(default_factory=dict)
    paired: bool = True

    def difference(self, one: str, other: str) -> float:
        """Return the value of `one` less that of `other`."""
        sign = 1 if one < other else -1
        return sign * self.differences[pair(one, other)].value + 0.0  # no negative zero


def pair(a: str, b: str) -> tuple[str, str]:
    """Return two names in alphabetical order."""
    return (a, b) if a < b else (b, a)


def ranked(order: Sequence[str], differences: Mapping[tuple[str, str], Difference], *, paired: bool = True) -> Ranking:
    """Rank variants whose order is known.

    Args:
        order: those to rank, best first.
        differences: of every two in alphabetical order, at least of those ranked; p is corrected over all of them.
        paired: whether the differences are over the same prompts, pairs or documents.

    Returns:
        The ranking; variants that cannot be told apart share a rank.
    """
    p = dict(zip(differences, intervals.holm([d.p for d in differences.values()]), strict=True))
    ranks = {name: 1 + sum(p[pair(name, better)] <= ALPHA for better in order[:i]) for i, name in enumerate(order)}
    return Ranking(order, ranks, differences, p, paired)


def verdict(ranking: Ranking, metric: Metric, best: WithInterval, *, base_leads: bool = False) -> str:
    """Say who leads, whether that is more than the base's half, and who cannot be told from the leader.

    Args:
        ranking: at least one variant.
        metric: what ranks them.
        best: the leader's number.
        base_leads: whether the base has a better number than the leader, where it has a number of its own.

    Returns:
        A sentence without its full stop.
    """
    leader, others = ranking.order[0], ranking.order[1:]
    value = interval_text(metric, best)
    halved = metric.base_value == HALF
    if base_leads or (halved and best.high < HALF):
        number = f"has {metric.phrase} of {value}" if metric.phrase else f"has {value} by {metric.label}"
        return f"No variant beats the base: {leader}, the best, {number}"
    number = f"with {metric.phrase} of {value}" if metric.phrase else f"by {metric.label}: {value}"
    sentence = f"{leader} leads {number}"
    if halved and best.low <= HALF:
        sentence += ", which cannot be told from one half"
    tied = [name for name in others if ranking.p[pair(leader, name)] > ALPHA]
    if tied:
        more = f" and {len(tied) - TIES} more" if len(tied) > TIES else ""
        named = ", ".join(_tie(ranking, metric, leader, name) for name in tied[:TIES])
        return f"{sentence}; it cannot be separated from {named}{more}"
    return f"{sentence}; it is separated from all others (Holm-corrected p < 0.05)" if others else sentence


def interval_text(metric: Metric, number: WithInterval) -> str:
    """Return `66.0% (58.5 to 73.0)`, or the same in the metric's own unit."""
    unit = "%" if metric.percent else f" {metric.unit}" if metric.unit else ""
    return f"{metric.text(number.value)}{unit} ({metric.text(number.low)} to {metric.text(number.high)})"


def _tie(ranking: Ranking, metric: Metric, leader: str, other: str) -> str:
    unit = f" {metric.difference_unit}" if metric.difference_unit else ""
    gap = metric.text(ranking.difference(leader, other), "+")
    kind = "paired difference" if ranking.paired else "difference"
    return f"{other} ({kind} {gap}{unit}, p = {ranking.p[pair(leader, other)]:.2f})"
