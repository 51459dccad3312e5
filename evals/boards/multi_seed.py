"""A board whose rows are tuned variants: means over seeds, whose intervals span seeds and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from prefzoo.evals.boards.leaderboard import ALPHA, BASE, Leaderboard
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import power_statement, seeded_difference, seeded_mean
from prefzoo.evals.stats.intervals import Difference, Estimate, Values

BOTH = "Intervals span seeds and prompts together, both drawn from more of their kind."
HALF = 0.5
Z = 1.96


@dataclass(frozen=True)
class Spread:
    """How much a variant's primary number varies, in its own unit.

    Attributes:
        seeds: standard deviation of the seeds' means; NaN for one seed.
        prompts: standard error over prompts (or pairs) of the mean over seeds.
    """

    seeds: float
    prompts: float


def seeded(board: Leaderboard, found: Mapping[str, Measured], arms: Mapping[str, Sequence[str]]) -> Leaderboard:
    """The board with a row for each arm instead of one for each seed, whose rows stay in the long table.

    Args:
        board: of every final model by its own name, and the base.
        found: their numbers.
        arms: which models are one variant's seeds.
    """
    base = found.get(BASE)
    primary = {arm: np.stack([primary_values(found[n], base, board.primary) for n in names])
               for arm, names in arms.items()}  # fmt: skip
    rows = [row for arm, names in arms.items() for row in _rows(arm, names, board.long, found, base)]
    pairs = [(a, b) for i, a in enumerate(sorted(arms)) for b in sorted(arms)[i + 1 :]]
    differences = {(a, b): _difference(primary[a], primary[b]) for a, b in pairs}
    p = dict(zip(differences, intervals.holm([d.p for d in differences.values()]), strict=True))
    place = {arm: -_mean(values).value for arm, values in primary.items()} | ({BASE: -HALF} if base else {})
    order = sorted(place, key=lambda n: place[n] if np.isfinite(place[n]) else np.inf)
    ranked = [n for n in order if n != BASE and np.isfinite(place[n])]
    ranks = {n: 1 + sum(p[min(n, m), max(n, m)] <= ALPHA for m in ranked[:i]) for i, n in enumerate(ranked)}
    what = "prompts" if board.primary == "win_rate" else "pairs"
    power = " ".join([BOTH, power_statement({n: v.mean(0) for n, v in primary.items()}, what)]).strip()
    long = pd.concat([pd.DataFrame(rows), board.long], ignore_index=True)
    long = long[[c for c in board.long.columns if c in long.columns]]
    return Leaderboard(long, order, ranks, p, board.primary, differences, power, board.more)


def spread(found: Mapping[str, Measured], names: Sequence[str], primary: str) -> Spread:
    """Of a variant's primary number, over its seeds and over prompts apart."""
    values = _whole(np.stack([primary_values(found[n], found.get(BASE), primary) for n in names]))
    seeds = float(values.mean(1).std(ddof=1)) if len(values) > 1 else np.nan
    return Spread(seeds, float(values.mean(0).std(ddof=1) / np.sqrt(values.shape[1])))


def primary_values(m: Measured, base: Measured | None, primary: str) -> Values:
    """(n,) what a board ranks by, per prompt or pair; NaN where it is missing."""
    if primary != "win_rate" or base is None:
        return np.asarray(HALF + HALF * np.sign(np.array(m.margins, dtype=float)))
    if m.preferences:
        return np.array(m.preferences, dtype=float) - 1
    return intervals.wins(np.array(m.scores), np.array(base.scores))


def _rows(
    arm: str, names: Sequence[str], long: pd.DataFrame, found: Mapping[str, Measured], base: Measured | None
) -> list[dict[str, Any]]:
    """An arm's rows of the long table, in the order of its seeds' own."""
    out = []
    for metric in dict.fromkeys(long[long.variant == names[0]].metric):
        own = long[(long.metric == metric) & long.variant.isin(names)]
        values = _values(metric, [found[n] for n in names], base)
        estimate = _mean(values) if values is not None else _over_seeds(own)
        out.append({**own.iloc[0].to_dict(), "variant": arm, **vars(estimate), "seed": pd.NA})
    return out


def _values(metric: str, of: Sequence[Measured], base: Measured | None) -> Values | None:
    """(seeds, n) of a metric that is a mean over prompts or pairs; None for any other."""
    if metric in ("win_rate", "preference_accuracy"):
        return np.stack([primary_values(m, base, metric) for m in of])
    if all(metric in m.pairs for m in of):
        return np.array([m.pairs[metric] for m in of])
    fields = {"preference_margin": "margins", "score": "scores"}
    if metric not in (*fields, "words", "repetition", "finished", "kl"):
        return None
    return np.array([getattr(m, fields.get(metric, metric)) for m in of], dtype=float)


def _whole(values: Values) -> Values:
    """Without the prompts that a seed has no number for."""
    return values[:, np.isfinite(values).all(0)]


def _mean(values: Values) -> Estimate:
    kept = _whole(values)
    if kept.shape[1] < 2:  # noqa: PLR2004 - no spread
        value = float(kept.mean()) if kept.size else np.nan
        return Estimate(value, np.nan, np.nan, np.nan, kept.shape[1])
    if np.ptp(kept) == 0:  # Wilson's interval where every answer ended alike
        return intervals.mean(kept[0])
    found = seeded_mean(kept)
    if kept.min() < 0 or kept.max() > 1:
        return found
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))  # a share


def _difference(a: Values, b: Values) -> Difference:
    kept = np.isfinite(a).all(0) & np.isfinite(b).all(0)
    if kept.sum() < 2:  # noqa: PLR2004 - no spread
        return Difference(np.nan, np.nan, np.nan, 1.0)
    return seeded_difference(a[:, kept], b[:, kept])


def _over_seeds(own: pd.DataFrame) -> Estimate:
    """Of numbers known only with their errors: seeds share the prompts, whose part no number of seeds makes smaller."""
    value, n, seeds = float(own.value.mean()), int(own.n.min()), len(own)
    between = float(own.value.var(ddof=1)) / seeds if seeds > 1 else 0.0
    stderr = float(np.sqrt((own.stderr**2).mean() + between))
    return Estimate(value, stderr, value - Z * stderr, value + Z * stderr, n)
