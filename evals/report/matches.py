"""The head-to-head table of variants, and their win rates by length of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite, nan
from typing import Any

import numpy as np
import pandas as pd

from prefzoo.evals.boards.equivalence import Equivalence
from prefzoo.evals.boards.round_robin import as_json, round_robin
from prefzoo.evals.boards.run_files import RunFiles
from prefzoo.evals.boards.verdict import p_text, signed
from prefzoo.evals.judges.coverage import Coverage
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metrics
from prefzoo.evals.report.canvas import Chart
from prefzoo.evals.report.charts import ScatterPoint, scatter
from prefzoo.evals.report.numbers import amount, signed_minus
from prefzoo.evals.stats import intervals
from prefzoo.runtime.run_folders import BASE

HALF = 0.5
MOST_PAIRS = 60  # rows in a table of pairs


@dataclass(frozen=True)
class Square:
    """A cell of the heat map.

    Attributes:
        text: the win rate; empty on the diagonal.
        strength: distance of the win rate from one half, from 0 (a tie) to 100 (always won or lost).
        won: whether the win rate is above one half.
    """

    text: str
    strength: int
    won: bool


@dataclass(frozen=True)
class Match:
    """A row of the heat map, as texts, with the variant's rank on the leaderboard."""

    variant: str
    rank: str
    score: str
    p_best: str
    squares: list[Square]


def round_robin_of(run: RunFiles) -> dict[str, Any] | None:
    """Return the content of `round_robin.json`, or else a round robin by the verifier's scores; None without scores."""
    if run.round_robin is not None:
        return run.round_robin
    measured: dict[str, Measured] = {n: v.measured for n, v in run.variants.items() if v.measured is not None}
    scores = {n: np.array(m.scores) for n, m in measured.items() if m.scores}
    if len(scores) < 2 or len({len(s) for s in scores.values()}) != 1:  # noqa: PLR2004
        return None
    won = {(a, b): intervals.wins(scores[b], scores[a]) for a, b in combinations(sorted(scores), 2)}
    return as_json(round_robin(won, Coverage(sum(map(len, won.values())), 0, ())), Verifier())


def matches(played: Mapping[str, Any], ranks: Mapping[str, str]) -> list[Match]:
    """Return the rows of the heat map.

    Args:
        played: the content of `round_robin.json`.
        ranks: each variant's rank on the leaderboard, as text.
    """
    scores = {s["variant"]: s for s in played["scores"]}
    rows = []
    for name, wins in zip(played["variants"], played["wins"], strict=True):
        s = scores.get(name)
        cells = ("", "") if s is None else (_elo(s), f"{100 * s['p_best']:.0f}%")
        rows.append(Match(name, ranks.get(name, "–"), *cells, [_square(w) for w in wins]))
    return rows


def in_order(played: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Return a round robin with its variants in the order given; variants outside that order come last."""
    names = list(played["variants"])
    wanted = [n for n in order if n in names] + [n for n in names if n not in order]
    at = [names.index(n) for n in wanted]
    return played | {"variants": wanted, "wins": [[played["wins"][i][j] for j in at] for i in at]}


def _elo(s: Mapping[str, Any]) -> str:
    return signed_minus(f"{s['score']:+.0f} ({s['low']:+.0f} to {s['high']:+.0f})")


def _square(won: float | None) -> Square:
    if won is None:
        return Square("", 0, won=False)
    return Square(f"{100 * won:.0f}%", round(200 * abs(won - HALF)), won > HALF)


def equal(tested: Equivalence | None) -> dict[str, Any] | None:
    """Return the table of pairs with the answer whether they are equal within a margin; None without such a test."""
    if tested is None or not tested.pairs:
        return None
    rows = [
        {
            "one": p.one, "other": p.other, "words": tested.words(p),
            "difference": signed_minus(f"{p.difference:+.1f}"),
            "interval": signed_minus(f"{p.low:.1f} to {p.high:.1f}"), "p_equal": p_text(p.p_equal).removeprefix("p = "),
            "p_different": "–" if p.p_different is None else p_text(p.p_different).removeprefix("p = "),
        }
        for p in tested.pairs[:MOST_PAIRS]
    ]  # fmt: skip
    more = len(tested.pairs) - len(rows)
    return {"points": f"{tested.points:g}", "metric": tested.metric, "rows": rows, "more": more}


def by_length(long: pd.DataFrame, series: Mapping[str, int]) -> Chart | None:
    """Chart the raw (filled) and length-controlled (hollow) win rates against the mean length of answers in words.

    Args:
        long: the run's long table.
        series: the number of each variant's look (see `style.look`).

    Returns:
        The chart; None without win rates.
    """
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


@dataclass(frozen=True)
class Length:
    """A row of the table of lengths, as texts: lengths, both win rates and their difference; a dash if missing."""

    variant: str
    words: str
    ratio: str
    raw: str
    controlled: str
    change: str


def lengths(long: pd.DataFrame, order: Sequence[str]) -> list[Length]:
    """Return the lengths of answers and both win rates of each model; models without answers are left out.

    Args:
        long: the run's long table.
        order: the names of all models, in the order of the rows.
    """
    metrics = Metrics()
    wanted = ("words", "length_ratio", "win_rate", "win_rate_lc")
    at = {} if long.empty else {(r["variant"], r["metric"]): float(r["value"]) for r in long.to_dict("records")}
    rows = []
    for name in order:
        if (name, "words") in at:
            itself = {m: metrics[m].base_value for m in wanted} if name == BASE else {}
            values = {m: at.get((name, m), itself.get(m) or nan) for m in wanted}
            words, ratio, raw, controlled = (amount(metrics[m], v) if isfinite(v) else "–" for m, v in values.items())
            gap = values["win_rate_lc"] - values["win_rate"]
            change = signed_minus(signed(metrics["win_rate"], gap)) if isfinite(gap) and name != BASE else "–"
            rows.append(Length(name, words, ratio, raw, controlled, change))
    return rows
