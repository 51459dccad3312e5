"""A run's numbers as the page shows them: the board, and each number as text with its interval."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import pandas as pd

from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.leaderboard import BASE, Leaderboard
from prefzoo.evals.boards.run_files import RunFiles, VariantFiles
from prefzoo.evals.judges.coverage import MOST_MISSING
from prefzoo.evals.metrics.estimates import PLAIN
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.report.style import short

NAMES = {
    "win_rate": "win rate",
    "win_rate_lc": "win rate, length-controlled",
    "score": "score",
    "preference_accuracy": "preference accuracy",
    "preference_margin": "preference margin, nats",
    "words": "words",
    "repetition": "repetition",
    "finished": "finished",
    "train_seconds": "training",
    "kl": "KL, nats",
    "chosen_displacement": "chosen log-prob, change, nats",
    "entropy": "entropy, nats",
    "perplexity": "perplexity, bits per byte",
    "length_ratio": "length ratio",
    "calibration_error": "calibration error",
    "length_normalised_accuracy": "accuracy per token",
}
DELTA = "_delta"  # ends the name of a benchmark's difference from the base
KEYS = ["variant", "metric"]


@dataclass(frozen=True)
class Cell:
    """A number of the leaderboard: what sorts it (None: nothing was measured), its text and its interval's."""

    sort: float | None
    value: str
    interval: str
    note: str = ""


def board_of(run: RunFiles) -> Leaderboard | None:
    """The board from what is on disk, judged preferences included; None where no variant was measured."""
    found = {name: _judged(v, v.measured) for name, v in run.variants.items() if v.measured is not None}
    if not set(found) - {BASE}:
        return None
    return leaderboard.build(found, {n: v.result.costs for n, v in run.variants.items() if v.result is not None})


def _judged(variant: VariantFiles, measured: Measured) -> Measured:
    """The judge's words stand in `annotations.json`; too many missing ones withhold all, as in the run itself."""
    rows = variant.annotations
    if measured.preferences or not rows:
        return measured
    missing = sum(r["preference"] is None for r in rows)
    withheld = missing > MOST_MISSING * len(rows)
    preferences = [None if withheld else r["preference"] for r in rows]
    judge, prompt = (str(rows[0].get(k) or "") for k in ("annotator", "prompt_hash"))
    return replace(measured, preferences=preferences, missing=missing, judge=judge, prompt_hash=prompt)


def long_of(run: RunFiles, board: Leaderboard | None) -> pd.DataFrame:
    """The run's long table; what it lacks and `board` has is added."""
    written = run.long
    if board is None:
        return written
    if written.empty:
        return board.long
    known = set(zip(written.variant, written.metric, strict=True))
    new = [pair not in known for pair in zip(board.long.variant, board.long.metric, strict=True)]
    more = board.long[new]
    return written if more.empty else pd.DataFrame([*written.to_dict("records"), *more.to_dict("records")])


def metrics_of(long: pd.DataFrame) -> list[str]:
    """The columns of the leaderboard: what ranks first, what warns, everything else, and the cost."""
    if long.empty:
        return []
    found = [str(m) for m in dict.fromkeys(long.metric) if not str(m).endswith(DELTA)]
    place = {m: i for i, m in enumerate(leaderboard.ORDER)}
    return sorted(found, key=lambda m: len(place) + 1 if m == "train_seconds" else place.get(m, len(place)))


def name_of(metric: str) -> str:
    """A metric in words."""
    return NAMES.get(metric, metric.replace("_", " "))


def cells(long: pd.DataFrame, variant: str) -> dict[str, Cell]:
    """A variant's numbers by metric."""
    mine = [] if long.empty else long[long.variant == variant].to_dict("records")
    return {str(row["metric"]): cell({str(k): v for k, v in row.items()}) for row in mine}


def cell(row: dict[str, Any]) -> Cell:
    """One row of the long table."""
    value, metric, note = float(row["value"]), str(row["metric"]), row.get("note")
    said = note if isinstance(note, str) else ""
    if not isfinite(value):
        return Cell(None, "–", "", said)
    if metric == "train_seconds":
        return Cell(value, duration(value), "", said)
    low, high = float(row["low"]), float(row["high"])
    return Cell(value, amount(metric, value), between(metric, low, high), said)


def amount(metric: str, value: float) -> str:
    """A value in the unit of its metric."""
    plain = metric in PLAIN or abs(value) > 1
    return signed_minus(f"{value:.{PLAIN.get(metric, 1)}f}") if plain else f"{100 * value:.1f}%"


def between(metric: str, low: float, high: float) -> str:
    """An interval in the unit of its metric; empty where there is none."""
    if not (isfinite(low) and isfinite(high)):
        return ""
    plain = metric in PLAIN or max(abs(low), abs(high)) > 1
    ends = (low, high) if plain else (100 * low, 100 * high)
    digits = PLAIN.get(metric, 1)
    return signed_minus(f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}")


def signed_minus(words: str) -> str:
    """A true minus sign, as wide as a plus."""
    return words.replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 100:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    if seconds < 6000:  # noqa: PLR2004
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def cost(name: str, value: float) -> str:
    """A cost in a readable unit."""
    if name == "seconds":
        return duration(value)
    if name.endswith("_bytes"):
        return f"{value / 2**30:.1f} GiB"
    return short(value)
