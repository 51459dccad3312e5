"""Test which variants are equal within a margin and which are different, and plan what would decide the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any, Literal

import numpy as np

from prefzoo.evals.boards.costs import RunCost
from prefzoo.evals.boards.ranking import ALPHA, HALF, Ranking, pair
from prefzoo.evals.boards.verdict import names
from prefzoo.evals.metrics.registry import Metric
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.equivalence import equality, plan_to_decide
from prefzoo.evals.stats.intervals import Values

POINTS = 100  # percentage points in a share of one
SPELLED_OUT = 6  # pairs; if there are more, the sentence is about the leader alone
THE_BASE = "the base"
IN_FULL = "the JSON (verdict.json of a run, --format json of compare)"
Outcome = Literal["equal", "different", "undecided"]


@dataclass(frozen=True)
class ComparedPair:
    """The tests of two variants, or of a variant and the base.

    Attributes:
        one: the variant that is ahead on the board.
        other: the other variant, or the base.
        outcome: `equal` if the two are equal within the margin, else `different` if they differ significantly, else
            `undecided`.
        difference, low, high: `one` minus `other` in percentage points, and the 90% interval.
        p_equal: p of two one-sided tests; Holm-corrected for two variants, uncorrected against the base.
        p_different: Holm-corrected p of the ranking's test; None against the base, where the 95% interval decides.
        differs: whether the two differ significantly, which they may also if they are equal within the margin.
        prompts, seeds: about how many would decide the pair; None if it is decided, or if no number would decide it.
    """

    one: str
    other: str
    outcome: Outcome
    difference: float
    low: float
    high: float
    p_equal: float
    p_different: float | None
    differs: bool
    prompts: int | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class Equivalence:
    """The tests of every two variants of a board, and of every variant against the base.

    Attributes:
        points: the margin, in percentage points.
        metric: name of the metric that ranks the board.
        row_name: plural noun for its rows, like `prompts`.
        pairs: the tested pairs, in the order of the board; those with the base come last for each variant.
        seeds_known: whether every variant has several seeds, which show how much seeds vary.
    """

    points: float
    metric: str
    row_name: str
    pairs: tuple[ComparedPair, ...]
    seeds_known: bool

    @property
    def sentence(self) -> str:
        """The outcomes in words; of many pairs, only those of the leader. Empty without pairs."""
        if not self.pairs:
            return ""
        ahead = list(dict.fromkeys(p.one for p in self.pairs))
        few = len(self.pairs) <= SPELLED_OUT
        sentences = [self._against(name) for name in (ahead if few else ahead[:1])]
        sentences += [] if few else [f"All {len(self.pairs)} pairs are in {IN_FULL}."]
        sentences += [] if self.seeds_known else ["One seed does not show how much seeds vary."]
        return " ".join(sentences)

    def _against(self, name: str) -> str:
        groups: dict[str, list[str]] = {}
        for p in self.pairs:
            if p.one == name:
                groups.setdefault(self.words(p), []).append(p.other)
        return f"{name} {'; '.join(f'against {names(others)}: {words}' for words, others in groups.items())}."

    def words(self, p: ComparedPair) -> str:
        """Return the outcome in words: `equal within 3 points`, `different`, or `undecided: needs about ...`."""
        if p.outcome == "equal":
            return f"equal within {self.points:g} points{', though significantly different' if p.differs else ''}"
        if p.outcome == "different":
            return "different"
        if p.prompts is None:
            return f"undecided: seeds vary too much for any number of {self.row_name}"
        return f"undecided: needs about {p.prompts:,} {self.row_name} and {p.seeds} seeds"

    def as_json(self) -> dict[str, Any]:
        """Return all fields, with the outcome of each pair in words."""
        pairs = [{**asdict(p), "words": self.words(p)} for p in self.pairs]
        return {**asdict(self), "pairs": pairs}


def equivalence(
    values: Mapping[str, Values], ranking: Ranking, metric: Metric, points: float | None, base: Values | None = None,
    cost: RunCost | None = None,
) -> Equivalence | None:  # fmt: skip
    """Test every two variants, and every variant against the base.

    Args:
        values: (seeds, n) shares by variant, over the same prompts or pairs; variants without values are not tested.
        ranking: ranking of the variants.
        metric: metric that ranks them.
        points: margin of equality in percentage points; None to test nothing.
        base: (seeds, n) shares of the base; None if the base has one half on every row.
        cost: recorded time of the run; None if it is unknown.

    Returns:
        The tests; None if `points` is None, or if the metric is not a share.
    """
    if points is None or not metric.percent:
        return None
    order = [name for name in ranking.order if name in values]
    twos = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    asked = [
        _Asked(a, b, values[a], values[b], ranking.p[pair(a, b)], ranking.p[pair(a, b)] <= ALPHA, len(twos))
        for a, b in twos
    ]
    corrected = intervals.holm([equality(q.a, q.b, points / POINTS).p for q in asked])
    for name in order if ranking.standings else ():
        level = np.full((1, values[name].shape[1]), HALF) if base is None else base
        differs = ranking.standings.get(name) in ("better", "worse")
        asked.append(_Asked(name, THE_BASE, values[name], level, None, differs, 1, HALF if base is None else 1.0))
    pairs = [q.answer(points, p, cost) for q, p in zip_longest(asked, corrected)]
    pairs.sort(key=lambda p: order.index(p.one))
    known = bool(order) and min(len(values[name]) for name in order) > 1
    return Equivalence(points, metric.name, metric.row_name, tuple(pairs), known)


@dataclass(frozen=True)
class _Asked:
    """Two models to test.

    Attributes:
        one, other: their names.
        a, b: (seeds, n) shares of each.
        p_different: Holm-corrected p of the ranking's test; None against the base.
        differs: whether the two differ significantly.
        comparisons: number of tests that p is corrected for.
        largest: largest possible difference on one prompt.
    """

    one: str
    other: str
    a: Values
    b: Values
    p_different: float | None
    differs: bool
    comparisons: int
    largest: float = 1.0

    def answer(self, points: float, corrected: float | None, cost: RunCost | None) -> ComparedPair:
        margin = points / POINTS
        test = equality(self.a, self.b, margin, self.largest)
        p = test.p if corrected is None else corrected
        outcome: Outcome = "equal" if p <= ALPHA else "different" if self.differs else "undecided"
        numbers = (POINTS * test.value, POINTS * test.low, POINTS * test.high)
        answer = ComparedPair(self.one, self.other, outcome, *numbers, p, self.p_different, self.differs)
        if outcome != "undecided":
            return answer
        price = None if cost is None else cost.seconds
        plan = plan_to_decide(self.a, self.b, margin, self.comparisons, price, self.largest)
        return answer if plan is None else replace(answer, prompts=plan.prompts, seeds=plan.seeds)
