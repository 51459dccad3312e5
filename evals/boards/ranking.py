"""Ranks that are shared within noise, and which variants are better or worse than the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Difference

ALPHA = 0.05
HALF = 0.5  # the base against itself

Standing = Literal["better", "worse", "tied"]  # than the base, or not to be told from it
WORSE = "▼"  # marks a variant that is worse than the base


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
        ranks: 1 + the number of variants that are better and can be told apart, the base among them.
        differences: of every two in alphabetical order, the first less the second.
        p: of "no difference", corrected after Holm.
        paired: whether the differences are over the same prompts, pairs or documents.
        standings: of each variant against the base, where that is known.
    """

    order: Sequence[str] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)
    differences: Mapping[tuple[str, str], Difference] = field(default_factory=dict)
    p: Mapping[tuple[str, str], float] = field(default_factory=dict)
    paired: bool = True
    standings: Mapping[str, Standing] = field(default_factory=dict)

    @property
    def tied(self) -> list[str]:
        """The leader, and the variants that cannot be told from it, best first."""
        leader = self.order[:1]
        return [*leader, *(n for n in self.order[1:] if self.p[pair(leader[0], n)] > ALPHA)]

    def having(self, standing: Standing) -> list[str]:
        """Return the variants with a standing against the base, best first."""
        return [name for name in self.order if self.standings.get(name) == standing]

    def mark(self, name: str) -> str:
        """Return the rank as tables show it, with a mark where the variant is worse than the base."""
        rank = str(self.ranks.get(name, ""))
        return f"{rank} {WORSE}" if self.standings.get(name) == "worse" else rank

    def difference(self, one: str, other: str) -> float:
        """Return the value of `one` less that of `other`."""
        sign = 1 if one < other else -1
        return sign * self.differences[pair(one, other)].value + 0.0  # no negative zero


def pair(a: str, b: str) -> tuple[str, str]:
    """Return two names in alphabetical order."""
    return (a, b) if a < b else (b, a)


def standing(number: WithInterval, base: float, higher_is_better: bool | None = True) -> Standing:
    """Compare a number with the base's.

    Args:
        number: with its 95% interval.
        base: what the base is worth.
        higher_is_better: the direction; None counts as True.

    Returns:
        `better` or `worse` only if the whole interval is, else `tied`.
    """
    above, below = number.low > base, number.high < base
    if not above and not below:
        return "tied"
    return "better" if above == (higher_is_better is not False) else "worse"


def ranked(
    order: Sequence[str], differences: Mapping[tuple[str, str], Difference], *, paired: bool = True,
    standings: Mapping[str, Standing] | None = None, base: str = "",
) -> Ranking:  # fmt: skip
    """Rank variants whose order is known, and the base among them.

    Args:
        order: those to rank, best first, without the base.
        differences: of every two in alphabetical order, at least of those ranked; p is corrected over all of them.
        paired: whether the differences are over the same prompts, pairs or documents.
        standings: of variants against the base.
        base: the base's name, if it is to have a rank too.

    Returns:
        The ranking; variants that cannot be told apart share a rank. The base counts as better than the variants whose
        whole interval is worse, and as worse than those whose whole interval is better.
    """
    p = dict(zip(differences, intervals.holm([d.p for d in differences.values()]), strict=True))
    against = {name: s for name, s in (standings or {}).items() if name in order}
    ranks = {
        name: 1 + sum(p[pair(name, better)] <= ALPHA for better in order[:i]) + (against.get(name) == "worse")
        for i, name in enumerate(order)
    }
    if base and against:
        ranks[base] = 1 + sum(s == "better" for s in against.values())
    return Ranking(order, ranks, differences, p, paired, against)
