"""Format a run's numbers for the page: the leaderboard, and each number with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import pandas as pd

from prefzoo.evals.boards.judged_files import all_measured, rebuilt
from prefzoo.evals.boards.leaderboard import Leaderboard
from prefzoo.evals.boards.run_files import RunFiles
from prefzoo.evals.metrics.registry import DELTA, Metric, Metrics
from prefzoo.evals.report.style import short
from prefzoo.runtime.durations import duration
from prefzoo.runtime.run_folders import BASE


@dataclass(frozen=True)
class Cell:
    """A number on the leaderboard.

    Attributes:
        sort: the value by which a column is sorted; None if it is missing.
        value, interval: the number and its interval, as texts.
        note: a remark on the number; empty without one.
    """

    sort: float | None
    value: str
    interval: str
    note: str = ""


def board_of(run: RunFiles) -> Leaderboard | None:
    """Build the leaderboard from the run's files; return None if no variant was measured."""
    return rebuilt(run) if set(all_measured(run)) - {BASE} else None


def long_of(run: RunFiles, board: Leaderboard | None) -> pd.DataFrame:
    """Return the run's long table, extended by the rows that only `board` has."""
    written = run.long
    if board is None:
        return written
    if written.empty:
        return board.long
    known = set(zip(written.variant, written.metric, strict=True))
    new = [pair not in known for pair in zip(board.long.variant, board.long.metric, strict=True)]
    more = board.long[new]
    return written if more.empty else pd.DataFrame([*written.to_dict("records"), *more.to_dict("records")])


def columns_of(long: pd.DataFrame, metrics: Metrics) -> list[str]:
    """Return the leaderboard's columns in order, without differences from the base, which have another section."""
    return [] if long.empty else metrics.in_order(str(m) for m in long.metric if not str(m).endswith(DELTA))


def cells(long: pd.DataFrame, variant: str, metrics: Metrics) -> dict[str, Cell]:
    """Return a variant's numbers by metric. For a metric that it lacks, the base gets its value by definition.

    Args:
        long: the run's long table.
        variant: the variant's name.
        metrics: the metrics of the run.

    Returns:
        A cell for each metric that the variant has.
    """
    mine = [] if long.empty else long[long.variant == variant].to_dict("records")
    own = {str(row["metric"]): cell({str(k): v for k, v in row.items()}, metrics[str(row["metric"])]) for row in mine}
    return own if variant != BASE else _by_definition(long, metrics) | own


def _by_definition(long: pd.DataFrame, metrics: Metrics) -> dict[str, Cell]:
    """Return the base's value by definition for each metric in the table that has one."""
    about = [] if long.empty else [metrics[str(name)] for name in long.metric.unique()]
    return {m.name: Cell(m.base_value, amount(m, m.base_value), "reference") for m in about if m.base_value is not None}


def cell(row: dict[str, Any], metric: Metric) -> Cell:
    """Format one row of the long table."""
    value, note = float(row["value"]), row.get("note")
    note = note if isinstance(note, str) else ""
    if not isfinite(value):
        return Cell(None, "–", "", note)
    if metric.measured_on == "training":
        return Cell(value, amount(metric, value) if metric.unit else duration(value), "", note)
    return Cell(value, amount(metric, value), between(metric, float(row["low"]), float(row["high"])), note)


def amount(metric: Metric, value: float) -> str:
    """Format a value in the unit of its metric."""
    return signed_minus(metric.text(value) + ("%" if metric.percent else ""))


def between(metric: Metric, low: float, high: float) -> str:
    """Format an interval.

    Args:
        metric: the metric of its ends.
        low, high: the ends of the interval.

    Returns:
        `58.5 to 74.0` in the unit of the metric; empty if an end is not finite.
    """
    if not (isfinite(low) and isfinite(high)):
        return ""
    return signed_minus(f"{metric.text(low)} to {metric.text(high)}")


def signed_minus(words: str) -> str:
    """Replace hyphens by minus signs, which are as wide as a plus."""
    return words.replace("-", "\N{MINUS SIGN}")


def cost(name: str, value: float) -> str:
    """Format a cost in a readable unit."""
    if name == "seconds":
        return duration(value)
    if name.endswith("_bytes"):
        return f"{value / 2**30:.1f} GiB"
    return short(value)
