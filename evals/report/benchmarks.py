"""What training cost on benchmarks: differences from the base, the alignment tax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import pandas as pd

from prefzoo.evals.boards.judged_files import metrics_of
from prefzoo.evals.boards.ranking import ALPHA
from prefzoo.evals.boards.run_files import RunFiles
from prefzoo.evals.metrics.registry import DELTA, Metric
from prefzoo.evals.report.canvas import Chart
from prefzoo.evals.report.charts import Interval, interval_chart
from prefzoo.evals.report.glossary import DIRECTIONS
from prefzoo.evals.report.numbers import amount, signed_minus
from prefzoo.runtime.run_folders import BASE

Z = 1.96  # of a 95% interval


@dataclass(frozen=True)
class BenchmarkDifference:
    """One benchmark: the base's number, which way is better, and what the chart shows.

    `paired`: whether intervals are paired by document.
    """

    suite: str
    base: str
    better: str
    chart: Chart
    summary: str
    paired: bool


def deltas(run: RunFiles, long: pd.DataFrame, series: Mapping[str, int]) -> list[BenchmarkDifference]:
    """Chart every benchmark that the base and some variant were measured on.

    Args:
        run: its files.
        long: its long table.
        series: a number for each variant, which its look follows.

    Returns:
        One entry per benchmark, in the order in which they ran.
    """
    out, metrics = [], metrics_of([run])
    for suite, of_base in suites_of(run).items():
        metric = metrics[suite]
        rows = rows_of(run, long, metric, series)
        across = f"difference from the base, {metric.difference_unit}"
        chart = interval_chart(rows, f"{metric.label}: {across}", 0.0, across)
        if chart is not None:
            unit = "" if metric.percent or not metric.unit else f" {metric.unit}"
            level = f"{amount(metric, of_base['value'])}{unit} (n = {of_base['n']:.0f})"
            words, paired = _summary(rows, metric, _separated(long, metric)), bool(_paired(long, metric, series))
            better = DIRECTIONS[metric.higher_is_better]
            out.append(BenchmarkDifference(metric.label, level, better, chart, words, paired))
    return out


def suites_of(run: RunFiles) -> dict[str, dict[str, Any]]:
    """Return the base's results, by benchmark."""
    base = run.variants.get(BASE)
    return base.measured.benchmarks if base is not None and base.measured is not None else {}


def rows_of(run: RunFiles, long: pd.DataFrame, metric: Metric, series: Mapping[str, int]) -> list[Interval]:
    """Return the differences of each variant from the base.

    Args:
        run: its files.
        long: its long table.
        metric: of the benchmark.
        series: a number for each variant, which its look follows.

    Returns:
        Intervals in the metric's unit, paired by document if the long table has these.
    """
    return _paired(long, metric, series) or _unpaired(run, metric, series)


def _paired(long: pd.DataFrame, metric: Metric, series: Mapping[str, int]) -> list[Interval]:
    rows = [] if long.empty else long[long.metric == metric.name + DELTA].to_dict("records")
    gaps = {str(r["variant"]): [metric.scaled(float(r[k])) for k in ("value", "low", "high")] for r in rows}
    return [Interval(n, gaps[n][0], gaps[n][1], gaps[n][2], i) for n, i in series.items() if n in gaps]


def _unpaired(run: RunFiles, metric: Metric, series: Mapping[str, int]) -> list[Interval]:
    """Return the difference by both standard errors; wider than if documents were paired."""
    rows, base = [], suites_of(run)[metric.name]
    for name, i in series.items():
        measured = run.variants[name].measured if name in run.variants else None
        mine = measured.benchmarks.get(metric.name) if measured is not None else None
        if mine is not None:
            change = metric.scaled(mine["value"] - base["value"])
            reach = metric.scaled(Z * sqrt(mine.get("stderr", 0.0) ** 2 + base.get("stderr", 0.0) ** 2))
            rows.append(Interval(name, change, change - reach, change + reach, i))
    return rows


def _separated(long: pd.DataFrame, metric: Metric) -> dict[str, bool]:
    """Return whether each paired difference is one after Holm's correction, where that is known."""
    if long.empty or "p" not in long:
        return {}
    rows = long[(long.metric == metric.name + DELTA) & long.p.notna()]
    return {str(r["variant"]): bool(r["p"] <= ALPHA) for r in rows.to_dict("records")}


def _summary(rows: list[Interval], metric: Metric, separated: Mapping[str, bool]) -> str:
    def told(row: Interval) -> str:
        return f"{row.name} ({signed_minus(f'{row.value:+.{metric.digits}f}')} {metric.difference_unit})"

    apart = [r for r in rows if separated.get(r.name, True)]
    less, more = [told(r) for r in apart if r.high < 0], [told(r) for r in apart if r.low > 0]
    words = {True: ("worse", "better"), False: ("better", "worse"), None: ("lower", "higher")}[metric.higher_is_better]
    parts = {f"{word} than the base": several for word, several in zip(words, (less, more), strict=True) if several}
    text = "; ".join(f"{word}: {', '.join(several)}" for word, several in parts.items())
    holm = " (p after Holm)" if separated else ""
    return (text or "no variant can be told from the base") + holm
