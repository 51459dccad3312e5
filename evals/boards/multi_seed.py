"""Merge the seeds of each variant on a board into one row: means, with intervals over seeds and prompts together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from prefzoo.evals.boards.costs import RunCost
from prefzoo.evals.boards.equivalence import equivalence
from prefzoo.evals.boards.leaderboard import ESTIMATE, Leaderboard, rows_of
from prefzoo.evals.boards.ranking import HALF, ranked, standing
from prefzoo.evals.boards.verdict import advice
from prefzoo.evals.metrics.estimates import rows_or_none
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, Metrics
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import power_statement, seeded_difference, seeded_mean
from prefzoo.evals.stats.intervals import Difference, Estimate, Values
from prefzoo.runtime.run_folders import BASE

NOTE = "Intervals span seeds and prompts together."
TWO = 2  # fewest prompts that have a spread
Z = 1.96  # half-width of a 95% interval in standard errors


@dataclass(frozen=True)
class SeedSpread:
    """The variation of a variant's primary metric, in the metric's own unit.

    Attributes:
        seeds: standard deviation of the seeds' means; NaN for one seed.
        prompts: standard error over prompts (or pairs) of the mean over seeds.
    """

    seeds: float
    prompts: float


def over_seeds(
    board: Leaderboard, models: Mapping[str, Measured], seeds: Mapping[str, Sequence[str]], cost: RunCost | None = None
) -> Leaderboard:  # fmt: skip
    """Merge the seeds of each variant of a board.

    Args:
        board: board of the base and of every final model, by the model's own name.
        models: measurements of the models, by the same names.
        seeds: names of the models that are the seeds of each variant, by the variant's name.
        cost: recorded time of the run; None if it is unknown.

    Returns:
        The board with one row per variant instead of one per seed. The long table keeps the rows of the seeds, too.
    """
    metric = board.metrics[board.primary]
    primary = {variant: _stacked(metric, names, models) for variant, names in seeds.items()}
    rows = [row for variant, names in seeds.items() for row in _rows(variant, names, board, models)]
    differences = {(a, b): gap_over_seeds(primary[a], primary[b]) for a, b in combinations(sorted(seeds), 2)}
    place = {variant: -_mean(values, share=metric.percent).value for variant, values in primary.items()}
    if BASE in models:
        place[BASE] = -HALF
    order = sorted(place, key=lambda n: place[n] if np.isfinite(place[n]) else np.inf)
    number = {row["variant"]: Estimate(**{k: row[k] for k in ESTIMATE}) for row in rows if row["metric"] == metric.name}
    against = {name: standing(one, HALF) for name, one in number.items() if np.isfinite(one.value)}
    names = [n for n in order if n != BASE and np.isfinite(place[n])]
    ranking = ranked(names, differences, standings=against, base=BASE if BASE in models else "")
    settle = advice({n: primary[n] for n in names}, metric, cost)
    points = board.equivalence.points if board.equivalence else None
    equal = equivalence({n: primary[n] for n in names}, ranking, metric, points, cost=cost)
    power = power_statement({n: v.mean(0) for n, v in primary.items()}, metric.row_name)
    long = pd.concat([pd.DataFrame(rows), board.long], ignore_index=True)
    long = long[[c for c in board.long.columns if c in long.columns]]
    power = f"{NOTE} {power}".strip()
    return replace(board, long=long, order=order, ranking=ranking, power=power, advice=settle, equivalence=equal)


def spread(models: Mapping[str, Measured], names: Sequence[str], primary: str) -> SeedSpread:
    """Measure how much a variant's primary metric varies over its seeds, and over prompts.

    Args:
        models: measurements of the models, by name.
        names: names of the models that are the variant's seeds.
        primary: name of the metric that ranks the board.

    Returns:
        The variation over seeds and over prompts.
    """
    values = _complete(_stacked(Metrics()[primary], names, models))
    seeds = float(values.mean(1).std(ddof=1)) if len(values) > 1 else np.nan
    return SeedSpread(seeds, float(values.mean(0).std(ddof=1) / np.sqrt(values.shape[1])))


def _stacked(metric: Metric, names: Sequence[str], models: Mapping[str, Measured]) -> Values:
    """Return the (seeds, n) rows of a metric."""
    return np.stack([rows_of(metric, models[name], models.get(BASE)) for name in names])


def _rows(
    variant: str, names: Sequence[str], board: Leaderboard, models: Mapping[str, Measured]
) -> list[dict[str, Any]]:
    """Return a variant's rows of the long table, one per metric, in the order of its first seed's rows."""
    out, long = [], board.long
    for name in dict.fromkeys(long[long.variant == names[0]].metric):
        own, metric = long[(long.metric == name) & long.variant.isin(names)], board.metrics[name]
        values = [rows_or_none(metric, models[seed], models.get(BASE)) for seed in names]
        known = [v for v in values if v is not None]
        whole = len(known) == len(values)
        estimate = _mean(np.stack(known), share=metric.percent) if whole else _of_estimates(own)
        out.append({**own.iloc[0].to_dict(), "variant": variant, **vars(estimate), "seed": pd.NA})
    return out


def _complete(values: Values) -> Values:
    """Return the (seeds, m) values of the prompts for which every seed has a number."""
    return values[:, np.isfinite(values).all(0)]


def _mean(values: Values, *, share: bool) -> Estimate:
    complete = _complete(values)
    if complete.shape[1] < TWO:
        value = float(complete.mean()) if complete.size else np.nan
        return Estimate(value, np.nan, np.nan, np.nan, complete.shape[1])
    if np.ptp(complete) == 0:  # all outcomes are the same: `intervals.mean` then gives Wilson's interval
        return intervals.mean(complete[0])
    estimate = seeded_mean(complete)
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high)) if share else estimate


def gap_over_seeds(a: Values, b: Values) -> Difference:
    """Return the mean of a - b over seeds, and over the prompts for which every seed has a number.

    Args:
        a: (seeds, n) values of one variant.
        b: (seeds, n) of the other; the numbers of seeds may differ.

    Returns:
        The difference, NaN with fewer than two prompts.
    """
    complete = np.isfinite(a).all(0) & np.isfinite(b).all(0)
    if complete.sum() < TWO:
        return Difference(np.nan, np.nan, np.nan, 1.0)
    return seeded_difference(a[:, complete], b[:, complete])


def _of_estimates(own: pd.DataFrame) -> Estimate:
    """Average the seeds' values. More seeds reduce the error between seeds, but not that of the prompts they share."""
    value, n, seeds = float(own.value.mean()), int(own.n.min()), len(own)
    between = float(own.value.var(ddof=1)) / seeds if seeds > 1 else 0.0
    stderr = float(np.sqrt((own.stderr**2).mean() + between))
    return Estimate(value, stderr, value - Z * stderr, value + Z * stderr, n)
