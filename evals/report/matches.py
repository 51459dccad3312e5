"""Variants against each other and against length: the heat map, win rates by length, the reward-KL frontier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from prefzoo.evals.boards.leaderboard import BASE
from prefzoo.evals.boards.round_robin import as_json, round_robin
from prefzoo.evals.boards.run_files import RunFiles
from prefzoo.evals.judges.coverage import Coverage
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metrics
from prefzoo.evals.report.canvas import Chart
from prefzoo.evals.report.charts import ScatterPoint, scatter
from prefzoo.evals.report.numbers import signed_minus
from prefzoo.evals.stats import intervals

HALF = 0.5


@dataclass(frozen=True)
class Square:
    """A cell of the heat map: its text, and how far from one half, in percent of the way to a certain win or loss."""

    text: str
    strength: int
    won: bool


@dataclass(frozen=True)
class Match:
    """A row of the heat map, best first; `ranks` is a set that holds the true rank with 95% confidence."""

    variant: str
    ranks: str
    score: str
    p_best: str
    squares: list[Square]


def round_robin_of(run: RunFiles) -> dict[str, Any] | None:
    """Return `round_robin.json`; if it is missing, every two variants by the verifier's scores."""
    if run.round_robin is not None:
        return run.round_robin
    measured: dict[str, Measured] = {n: v.measured for n, v in run.variants.items() if v.measured is not None}
    scores = {n: np.array(m.scores) for n, m in measured.items() if m.scores}
    if len(scores) < 2 or len({len(s) for s in scores.values()}) != 1:  # noqa: PLR2004
        return None
    won = {(a, b): intervals.wins(scores[b], scores[a]) for a, b in combinations(sorted(scores), 2)}
    return as_json(round_robin(won, Coverage(sum(map(len, won.values())), 0, ())), Verifier())


def matches(played: Mapping[str, Any]) -> list[Match]:
    """Return the heat map's rows."""
    scores = {s["variant"]: s for s in played["scores"]}
    rows = []
    for name, wins in zip(played["variants"], played["wins"], strict=True):
        s = scores.get(name)
        cells = ("", "", "") if s is None else (_ranks(s), _elo(s), f"{100 * s['p_best']:.0f}%")
        rows.append(Match(name, *cells, [_square(w) for w in wins]))
    return rows


def _ranks(s: Mapping[str, Any]) -> str:
    best, worst = int(s["best_rank"]), int(s["worst_rank"])
    return str(best) if best == worst else f"{best} to {worst}"


def _elo(s: Mapping[str, Any]) -> str:
    return signed_minus(f"{s['score']:+.0f} ({s['low']:+.0f} to {s['high']:+.0f})")


def _square(won: float | None) -> Square:
    if won is None:
        return Square("", 0, won=False)
    return Square(f"{100 * won:.0f}%", round(200 * abs(won - HALF)), won > HALF)


def by_length(long: pd.DataFrame, series: Mapping[str, int]) -> Chart | None:
    """Chart the win rate against the mean length of answers, raw (filled) and length-controlled (hollow)."""
    if long.empty:
        return None
    at = {(r["variant"], r["metric"]): r for r in long.to_dict("records")}
    points = []
    for name, i in series.items():
        words = at.get((name, "words"))
        for metric in ("win_rate", "win_rate_lc"):
            rate = at.get((name, metric))
            if words is not None and rate is not None:
                hollow = metric == "win_rate_lc"
                low, high = (nan, nan) if hollow else (float(rate["low"]), float(rate["high"]))
                points.append(ScatterPoint(name, float(words["value"]), float(rate["value"]), low, high, i, hollow))
    base = at.get((BASE, "words"))
    if points and base is not None:
        points.append(ScatterPoint(BASE, float(base["value"]), HALF, series=None))
    return scatter(points, "Win rate against length", "words per answer", "win rate", percent=True, joined=True)


def frontier(run: RunFiles, series: Mapping[str, int]) -> Chart | None:
    """Chart the reward against the KL from the reference, with a line through each variant's checkpoints."""
    table = run.frontier
    if table.empty:
        return None
    metric = Metrics()[str(table["metric"].iloc[0])]
    points = [
        ScatterPoint(
            str(r["variant"]), float(r["kl"]), float(r["reward"]), float(r["reward_low"]), float(r["reward_high"]),
            series.get(str(r["variant"])),
        )
        for r in table.sort_values(["variant", "step"]).to_dict("records")
    ]  # fmt: skip
    return scatter(
        points, "Reward against KL", "KL from the reference, nats", metric.title, percent=metric.percent, joined=True
    )
