"""Write the pictures of a run for papers, as SVG and PNG: the charts of its page, and its round robin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from prefzoo.evals.boards.leaderboard import Leaderboard
from prefzoo.evals.boards.run_files import RunFiles
from prefzoo.evals.metrics.registry import Metrics
from prefzoo.evals.report import benchmarks, canvas, curves, matches, numbers
from prefzoo.evals.report.canvas import Chart
from prefzoo.evals.report.charts import Interval, heat_map, interval_chart
from prefzoo.evals.report.frontier import along, frontier
from prefzoo.evals.report.style import series_numbers
from prefzoo.runtime.run_folders import BASE

COLUMNS = 3  # most charts in a row of a picture


def draw(run: RunFiles, folder: Path) -> list[Path]:
    """Write every picture that the run has data for, as `NAME.svg` and `NAME.png`, and return their paths."""
    board = numbers.board_of(run)
    long = numbers.long_of(run, board)
    order = order_of(run, board)
    series = series_of(run, order)
    pictures: dict[str, Sequence[Chart | None]] = {
        "ranking": [ranking(long, series, board.primary if board is not None else "")],
        "win_rate_by_length": [matches.by_length(long, series)],
        "head_to_head": [_head_to_head(run)],
        "frontier": [frontier(run, series)],
        "along": [along(run, series)],
        "benchmarks": [d.chart for d in benchmarks.deltas(run, long, series)],
        "training": [c.chart for c in curves.curves(run, series)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, drawn in pictures.items():
        charts = [chart for chart in drawn if chart is not None]
        if charts:
            written += canvas.save(charts, folder / name, min(COLUMNS, len(charts)))
    return written


def order_of(run: RunFiles, board: Leaderboard | None) -> list[str]:
    """Return the names of all variants and the base, best first; those without a rank are last."""
    ranked = board.order if board is not None else []
    return [*ranked, *(n for n in run.variants if n not in ranked)]


def loss_of(run: RunFiles, name: str) -> str:
    """Return the name of a variant's loss; `untrained` for the base."""
    if name == BASE:
        return "untrained"
    variant = run.recipe["variants"].get(run.finals.get(name, name)) or {}
    return str(variant.get("loss") or name)


def series_of(run: RunFiles, order: Sequence[str]) -> dict[str, int]:
    """Choose the look of each trained variant by its loss, so that a loss looks the same in every report.

    Args:
        run: the run's files.
        order: the names of all variants and the base, best first.

    Returns:
        The number of each variant's look (see `style.look`), in the order given.
    """
    known = [n for n in (*run.recipe["variants"], *run.finals, *order) if n != BASE]
    numbers = series_numbers({name: loss_of(run, name) for name in dict.fromkeys(known)})
    return {name: numbers[name] for name in order if name != BASE}


def ranking(long: pd.DataFrame, series: Mapping[str, int], primary: str, most: int | None = None) -> Chart | None:
    """Chart the metric that ranks the variants.

    Args:
        long: the run's long table.
        series: the number of each variant's look (see `style.look`), best first.
        primary: the metric that ranks; empty if nothing was measured.
        most: the most rows; None for all.

    Returns:
        The chart; None if nothing was measured.
    """
    if not primary or long.empty:
        return None
    metric = Metrics()[primary]
    rows = {str(r["variant"]): r for r in long[long.metric == primary].to_dict("records")}
    intervals = [
        Interval(n, float(rows[n]["value"]), float(rows[n]["low"]), float(rows[n]["high"]), i)
        for n, i in series.items()
        if n in rows
    ]
    return interval_chart(intervals[:most], metric.title, metric.base_value, percent=metric.percent)


def _head_to_head(run: RunFiles) -> Chart | None:
    played = matches.round_robin_of(run)
    return heat_map(played["variants"], played["wins"], "Head to head") if played else None
