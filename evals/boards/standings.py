"""Rank the variants of any runs by one metric: order, ranks, differences, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from prefzoo.evals.boards.costs import RunCost, run_cost
from prefzoo.evals.boards.equivalence import Equivalence, equivalence
from prefzoo.evals.boards.judged_files import costs_of
from prefzoo.evals.boards.multi_seed import gap_over_seeds
from prefzoo.evals.boards.ranking import Ranking, Standing, ranked, standing
from prefzoo.evals.boards.run_files import price_of
from prefzoo.evals.boards.selection import Entry
from prefzoo.evals.boards.verdict import BoardVerdict, advice, decide, statistics
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import power_statement
from prefzoo.evals.stats.intervals import Difference

PRIMARY = ("win_rate", "preference_accuracy", "score")  # by default the first of these that all entries have ranks
Z = float(norm.ppf(0.975))


def common(entries: Sequence[Entry]) -> list[str]:
    """Return the metrics of PRIMARY that every measured entry has."""
    measured = [e for e in entries if not e.is_base and len(e.long)]
    return [m for m in PRIMARY if measured and all(np.isfinite(e.value(m)) for e in measured)]


def _higher_is_better(entries: Sequence[Entry], metric: str) -> bool | None:
    """Return a metric's direction from the long table, else from the registry; None if neither direction is better."""
    for e in entries:
        written = e.long.loc[metric].get("higher_is_better") if metric in e.long.index else None
        if written is not None and pd.notna(written):
            return str(written) == "True"
    return entries[0].metrics[metric].higher_is_better


def primary(entries: Sequence[Entry]) -> str:
    """Return the metric that ranks the entries: the first of PRIMARY that all have; empty if there is none."""
    return next(iter(common(entries)), "")


def ordered(entries: Sequence[Entry], by: str, costs: pd.DataFrame) -> list[Entry]:
    """Sort entries by a metric or a cost.

    Args:
        entries: variants and bases.
        by: name of the metric or of the cost.
        costs: table of costs, a row per variant.

    Returns:
        The entries, best first. A base has its value against itself, like one half for a win rate. Entries without a
        number come last.
    """
    cost = costs.set_index("variant")
    if by in cost.columns:
        values = {e.label: float(cost[by].get(e.label, np.nan)) for e in entries}
        up: bool | None = by.endswith("per_second")
    else:
        values = {e.label: intervals.mean(e.rows[by]).value if by in e.rows else e.value(by) for e in entries}
        up = _higher_is_better(entries, by) is not False
    return sorted(entries, key=lambda e: np.inf if np.isnan(v := values[e.label]) else -v if up else v)


def rank(order: Sequence[Entry], by: str) -> Ranking:
    """Rank entries by a metric.

    Args:
        order: the entries, best first.
        by: name of the metric, or of a cost, which ranks nothing.

    Returns:
        The ranking; empty if neither direction of the metric is better, or if no entry has a number.
    """
    mine = {e.label: e for e in order if not e.is_base and np.isfinite(e.value(by))}
    if not mine or _higher_is_better(order, by) is None:
        return Ranking()
    paired = all(by in e.rows for e in mine.values())
    if paired and any(e.members for e in mine.values()):
        gaps = {(a, b): gap_over_seeds(mine[a].grid(by), mine[b].grid(by)) for a, b in combinations(sorted(mine), 2)}
    elif paired:
        gaps = intervals.paired_differences({label: e.rows[by] for label, e in mine.items()})
    else:
        gaps = {(a, b): _independent(mine[a], mine[b], by) for a, b in combinations(sorted(mine), 2)}
    bases = [e for e in order if e.is_base]
    base = bases[0].label if len(bases) == 1 else ""
    return ranked(list(mine), gaps, paired=paired, standings=_standings(order, list(mine.values()), by), base=base)


def _standings(order: Sequence[Entry], variants: Sequence[Entry], by: str) -> dict[str, Standing]:
    """Compare variants with the base: with its fixed value if the metric has one, else by paired differences."""
    up, value = _higher_is_better(order, by), variants[0].metrics[by].base_value
    if value is not None:
        numbers: dict[str, Any] = {e.label: e.long.loc[by] for e in variants}
        return {label: standing(number, value, up) for label, number in numbers.items()}
    bases = [e for e in order if e.is_base and np.isfinite(e.value(by))]
    if len(bases) != 1:
        return {}
    gaps = differences(bases[0], variants, by)
    return {e.label: standing(gap, 0.0, up) for e, (gap, _) in zip(variants, gaps, strict=True)}


def _independent(a: Entry, b: Entry, metric: str) -> Difference:
    """Compare two estimates as independent ones; if both are over the same prompts, the interval is too wide."""
    one, other = (float(e.long.loc[metric, "stderr"]) for e in (a, b))  # type: ignore[arg-type]
    value, error = a.value(metric) - b.value(metric), math.hypot(one, other)
    p = float(2 * norm.sf(abs(value) / error)) if error > 0 else np.nan
    return Difference(value, value - Z * error, value + Z * error, p if np.isfinite(p) else 1.0)


def differences(start: Entry, others: Sequence[Entry], metric: str) -> list[tuple[Difference, int]]:
    """Subtract `start` from each entry, paired by row if possible.

    Args:
        start: the entry to subtract, such as the baseline.
        others: the entries to subtract it from.
        metric: name of the metric.

    Returns:
        For each entry, the difference (NaN if a number is missing) and the number of paired rows (0 if not paired).
    """
    base = start.rows.get(metric)
    alike = {
        i: e
        for i, e in enumerate(others, 1)
        if base is not None and metric in e.rows and e.rows[metric].shape == base.shape
    }
    paired = {f"{i:06d}": e.rows[metric] for i, e in alike.items() if not (e.members or start.members)}
    first = f"{0:06d}"  # sorts before the names of all others
    gaps = intervals.paired_differences({first: base, **paired}, only=first) if base is not None and paired else {}
    out = []
    for i, e in enumerate(others, 1):
        over_seeds = i in alike and bool(e.members or start.members)
        gap = gap_over_seeds(start.grid(metric), e.grid(metric)) if over_seeds else gaps.get((first, f"{i:06d}"))
        if gap is None or base is None:
            both = metric in e.long.index and metric in start.long.index
            out.append((_independent(e, start, metric) if both else Difference(np.nan, np.nan, np.nan, 1.0), 0))
        else:
            n = int((np.isfinite(base) & np.isfinite(e.rows[metric])).sum())
            out.append((Difference(-gap.value, -gap.high, -gap.low, gap.p), n))
    return out


def equivalence_of(
    order: Sequence[Entry], ranking: Ranking, by: str, points: float | None
) -> Equivalence | None:  # fmt: skip
    """Test which entries are equal within a margin.

    Args:
        order: variants and bases, best first.
        ranking: ranking of the variants.
        by: name of the metric that ranks.
        points: margin of equality in percentage points; None to test nothing.

    Returns:
        The tests; None if `points` is None, nothing is ranked, the metric is not a share, or the entries cannot be
        paired row by row.
    """
    mine = {e.label: e for e in order}
    if not ranking.order or not ranking.paired:
        return None
    about, bases = mine[ranking.order[0]].metrics[by], [e for e in order if e.is_base]
    base = None if about.base_value is not None else bases[0].rows[by][None] if ranking.standings else None
    values = {name: mine[name].grid(by) for name in ranking.order}
    return equivalence(values, ranking, about, points, base, _cost(list(mine.values()), about.row_name))


def verdict_of(order: Sequence[Entry], ranking: Ranking, by: str, equal: Equivalence | None = None) -> BoardVerdict:
    """State who wins, what would settle a tie, and by how much the variants differ.

    Args:
        order: variants and bases, best first.
        ranking: ranking of the variants.
        by: name of the metric that ranks.
        equal: tests of which variants are equal within a margin; None if there are none.

    Returns:
        The verdict; empty if nothing is ranked.
    """
    if not ranking.order:
        return BoardVerdict("")
    mine = {e.label: e for e in order}
    best = mine[ranking.order[0]]
    number: Any = best.long.loc[by]
    settle = ""
    if equal is None and len(ranking.tied) > 1 and all(by in mine[name].rows for name in ranking.order):
        values = {name: mine[name].grid(by) for name in ranking.order}
        if len({v.shape[1] for v in values.values()}) == 1:
            settle = advice(values, best.metrics[by], _cost(list(mine.values()), best.metrics[by].row_name))
    equality = equal.sentence if equal else ""
    return BoardVerdict(decide(ranking), settle, statistics(ranking, best.metrics[by], number), equality=equality)


def _cost(entries: Sequence[Entry], rows: str) -> RunCost | None:
    variants = {seed.label: e.label for e in entries for seed in e.seeds if seed.files.result is not None}
    results = {s.label: costs_of(s.files, price_of(s.run)) for e in entries for s in e.seeds if s.label in variants}
    return run_cost(results, variants, rows)


def power(trained: Sequence[Entry], by: str) -> str:
    """State which differences are too small for the number of rows; empty if the metric is not a share."""
    rows = {e.label: e.rows[by] for e in trained if by in e.rows}
    about = trained[0].metrics[by] if trained else None
    return power_statement(rows, about.row_name) if about is not None and about.percent else ""
