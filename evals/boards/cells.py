"""The cells of a leaderboard, and its tables for a terminal and in Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from prefzoo.evals.boards.verdict import p_text
from prefzoo.evals.metrics.registry import DELTA, Metric

REFERENCE = "[reference]"  # follows the value that the base has by definition


def cell(metric: Metric, row: Any) -> str:
    """Return a row of the long table as text, with its interval."""
    if not np.isfinite(row.value):
        return "-"
    if metric.measured_on == "training":
        return metric.text(row.value)
    delta = metric.name.endswith(DELTA)
    sign = "+" if delta and metric.percent else ""
    unit = "%" if metric.percent and not delta else ""
    interval = f"[{metric.text(row.low, sign)}, {metric.text(row.high, sign)}]"
    return f"{metric.text(row.value, sign)}{unit} {interval}" + (f" {p_text(row.p)}" if np.isfinite(row.p) else "")


def absent(metric: Metric, *, base: bool) -> str:
    """Return the text of a cell without a measurement: a dash, or the value that the base has by definition."""
    if not base or metric.base_value is None:
        return "-"
    return f"{metric.text(metric.base_value)}{'%' if metric.percent else ''} {REFERENCE}"


def number(metric: Metric, value: Any, low: Any = None, high: Any = None) -> str:
    """Show a number with its interval.

    Args:
        metric: what the number is.
        value: the number.
        low, high: its interval; left out if not given.

    Returns:
        `66.5% [58.5, 74.0]`, or the same in the metric's own unit; a dash if the value is NaN.
    """
    if pd.isna(value):
        return "-"
    shown = metric.text(value) + ("%" if metric.percent else "")
    return shown if pd.isna(low) else f"{shown} [{metric.text(low)}, {metric.text(high)}]"


def table(cells: pd.DataFrame, caption: str) -> Table:
    """Return a table for a terminal, with intervals on separate lines so that no cell is cut off."""
    shown = Table(title="Leaderboard", caption=caption)
    for column in cells.columns:
        shown.add_column(str(column).replace("_", "\n"), no_wrap=True)
    for row in cells.itertuples(index=False):
        shown.add_row(*(str(text).replace(" [", "\n[") for text in row))
    return shown


def markdown(cells: pd.DataFrame) -> str:
    """Return a table in Markdown."""
    text = cells.astype(str)
    head = "| " + " | ".join(text.columns) + " |\n|" + "---|" * len(text.columns) + "\n"
    return head + "".join("| " + " | ".join(row) + " |\n" for row in text.itertuples(index=False))
