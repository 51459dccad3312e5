"""Show verdicts and tables as HTML in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from prefzoo.evals.boards.cells import absent, cell, number
from prefzoo.evals.boards.ranking import WORSE
from prefzoo.evals.metrics.registry import Metrics


def paragraphs(answer: str, others: Sequence[str]) -> str:
    """Return a verdict as HTML.

    Args:
        answer: the decision, with what would settle a tie.
        others: the sentences below it.
    """
    first = [f"<p><strong>{escape(answer)}</strong></p>"] if answer else []
    return "".join([*first, *(f"<p>{escape(line)}</p>" for line in others if line)])


def board_html(verdict: Mapping[str, Any], long: pd.DataFrame, metrics: Metrics, base: str) -> str:
    """Show a leaderboard from a run's files.

    Args:
        verdict: content of `verdict.json`.
        long: the long table.
        metrics: metrics of the run, by name.
        base: name of the base.

    Returns:
        The table as HTML.
    """
    ranks, standings = verdict.get("ranks", {}), verdict.get("standings", {})
    shown = [m for m in metrics.in_order(long.metric) if not metrics[m].diagnostic]
    by_name = {(row.variant, row.metric): row for row in long.itertuples()}
    rows = []
    for name in sorted(dict.fromkeys(long.variant), key=lambda n: ranks.get(n, len(long))):
        mark = f" {WORSE}" if standings.get(name) == "worse" else ""
        row = {"rank": f"{ranks.get(name, '')}{mark}", "variant": name}
        for m in shown:
            own = by_name.get((name, m))
            row[m] = cell(metrics[m], own) if own is not None else absent(metrics[m], base=name == base)
        rows.append(row)
    return pd.DataFrame(rows).to_html(index=False, border=0)


def comparison_html(table: pd.DataFrame, shown: Sequence[str], metrics: Metrics) -> str:
    """Show the numbers of a comparison.

    Args:
        table: a row per variant, with the columns of `RunComparison.table`.
        shown: names of the metrics to show, in order.
        metrics: the metrics, by name.

    Returns:
        The table as HTML.
    """
    rows = []
    for row in table.to_dict("records"):
        mark = f" {WORSE}" if row["against_base"] == "worse" else ""
        cells = {"rank": "" if pd.isna(row["rank"]) else f"{row['rank']}{mark}", "variant": row["variant"]}
        rows.append(cells | {m: number(metrics[m], row[m], row[f"{m}_low"], row[f"{m}_high"]) for m in shown})
    return pd.DataFrame(rows).to_html(index=False, border=0)
