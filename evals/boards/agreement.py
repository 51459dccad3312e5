"""Agreement of two runs on the order of the variants that both have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from prefzoo.evals.boards import comparable
from prefzoo.evals.boards.selection import Entry
from prefzoo.evals.stats.intervals import Values
from prefzoo.evals.stats.rank_agreement import THREE, rank_agreement


@dataclass(frozen=True)
class RankAgreement:
    """Kendall's tau between the orders of the variants that two runs share.

    Attributes:
        one, other: names of the two runs' folders.
        metric: metric that orders the variants.
        variants: names of the shared variants, best of the first run first.
        tau, low, high: Kendall's tau of the means over seeds and prompts, and its 95% interval.
        moved: number of ranks that each variant gains from the first run to the second; negative if it loses.
    """

    one: str
    other: str
    metric: str
    variants: tuple[str, ...]
    tau: float
    low: float
    high: float
    moved: Mapping[str, int]

    @property
    def sentence(self) -> str:
        """The agreement and the ranks gained in words, for the notes of a comparison."""
        far = sorted(self.moved.items(), key=lambda item: -abs(item[1]))
        places = ", ".join(f"{name} {by:+d}" for name, by in far if by) or "none"
        return (
            f"The orders of {len(self.variants)} variants in {self.one} and {self.other} agree with Kendall's tau "
            f"{self.tau:.2f} ({self.low:.2f} to {self.high:.2f}; 1 is the same order, 0 no relation). "
            f"Places gained in {self.other}: {places}."
        )


def rank_agreements(entries: Sequence[Entry], metric: str) -> tuple[RankAgreement, ...]:
    """Compare the orders of variants between every two runs.

    Args:
        entries: variants and bases; the seeds of a variant count together.
        metric: metric that orders the variants.

    Returns:
        The agreement of every two runs that share three or more variants with one stored value per prompt or pair;
        empty if the variants cannot be compared by the metric.
    """
    trained = [e for e in entries if not e.is_base and metric in e.rows]
    if comparable.obstacles(trained, metric):
        return ()
    runs: dict[Path, dict[str, list[Values]]] = {}
    for e in trained:
        variant = e.run.finals.get(e.files.name, e.files.name)
        runs.setdefault(e.run.folder, {}).setdefault(variant, []).extend(seed.rows[metric] for seed in e.seeds)
    tables = {folder: {name: np.stack(rows) for name, rows in by.items()} for folder, by in runs.items()}
    names = Counter(folder.name for folder in tables)
    shown = {folder: folder.name if names[folder.name] == 1 else str(folder) for folder in tables}
    sign = -1 if trained and trained[0].metrics[metric].higher_is_better is False else 1
    several = (_agreement(tables[a], tables[b], (shown[a], shown[b]), metric, sign) for a, b in combinations(tables, 2))
    return tuple(one for one in several if one is not None)


def _agreement(
    one: Mapping[str, Values], other: Mapping[str, Values], titles: tuple[str, str], metric: str, sign: int
) -> RankAgreement | None:
    shared = [name for name in one if name in other]
    if len(shared) < THREE:
        return None
    tau = rank_agreement(one, other)
    if not np.isfinite(tau.value):
        return None
    moved = places_gained(*(order_of({n: sign * side[n] for n in shared}) for side in (one, other)))
    return RankAgreement(*titles, metric, tuple(moved), tau.value, tau.low, tau.high, moved)


def order_of(values: Mapping[str, Values]) -> list[str]:
    """Return the names of variants, the one with the highest mean first."""
    return sorted(values, key=lambda name: -float(np.nanmean(values[name])))


def places_gained(before: Sequence[str], after: Sequence[str]) -> dict[str, int]:
    """Return by how many places each variant moved up between two orders, in the first order; negative for down."""
    return {name: place - after.index(name) for place, name in enumerate(before)}
