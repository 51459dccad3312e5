"""Ranks that are shared within noise, and standings of variants against the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Difference

ALPHA = 0.05
HALF = 0.5  # win rate of the base against itself

Standing = Literal["better", "worse", "tied"]  # significantly better or worse than the base, or neither
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
    """Variants in order, with their ranks and the tests between them.

    Attributes:
        order: names of the variants, best first.
        ranks: rank of each variant, and of the base: 1 + the number of models, the base included, that are
            significantly better.
        differences: difference of every two variants, the first in alphabetical order minus the second.
        p: Holm-corrected p of each difference.
        paired: whether the differences are over the same prompts, pairs or documents.
        standings: standing of each variant against the base; empty if it is unknown.
    """

    order: Sequence[str] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)
    differences: Mapping[tuple[str, str], Difference] = field(default_factory=dict)
    p: Mapping[tuple[str, str], float] = field(default_factory=dict)
    paired: bool = True
    standings: Mapping[str, Standing] = field(default_factory=dict)

    @property
    def tied(self) -> list[str]:
        """The leader and the variants that do not differ significantly from it, best first."""
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
        """Return the value of `one` minus that of `other`."""
        sign = 1 if one < other else -1
        return sign * self.differences[pair(one, other)].value + 0.0  # no negative zero


def pair(a: str, b: str) -> tuple[str, str]:
    """Return two names in alphabetical order."""
    return (a, b) if a < b else (b, a)


def standing(number: WithInterval, base: float, higher_is_better: bool | None = True) -> Standing:
    """Compare a number with the base's.

    Args:
        number: the number, with its 95% interval.
        base: value of the base.
        higher_is_better: direction of the metric; None counts as True.

    Returns:
        `better` or `worse` if the whole interval lies on that side of the base's value, else `tied`.
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
        order: names of the variants to rank, best first, without the base.
        differences: difference of every two variants, named in alphabetical order. May have further variants; p is
            Holm-corrected over all differences.
        paired: whether the differences are over the same prompts, pairs or documents.
        standings: standings of the variants against the base.
        base: name of the base, to rank it too; empty to leave it out.

    Returns:
        The ranking. Variants that do not differ significantly can share a rank. The base counts as better than the
        variants that are worse than it, and as worse than those that are better.
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
