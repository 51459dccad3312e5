"""Chart the alignment tax: how each variant differs from the base on benchmarks."""

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

Z = 1.96  # standard errors on either side of a 95% interval


@dataclass(frozen=True)
class BenchmarkDifference:
    """The differences of all variants from the base on one benchmark.

    Attributes:
        suite: the benchmark's label.
        base: the base's result, in words.
        better: whether more or less is better, in words.
        chart: the differences with their intervals.
        summary: which variants are better or worse than the base, in words.
        paired: whether the intervals are paired by document.
    """

    suite: str
    base: str
    better: str
    chart: Chart
    summary: str
    paired: bool


def deltas(run: RunFiles, long: pd.DataFrame, series: Mapping[str, int]) -> list[BenchmarkDifference]:
    """Chart every benchmark on which the base and at least one variant were measured.

    Args:
        run: the run's files.
        long: the run's long table.
        series: the number of each variant's look (see `style.look`).

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
    """Return the base's result on each benchmark, by the benchmark's name."""
    base = run.variants.get(BASE)
    return base.measured.benchmarks if base is not None and base.measured is not None else {}


def rows_of(run: RunFiles, long: pd.DataFrame, metric: Metric, series: Mapping[str, int]) -> list[Interval]:
    """Return the difference of each variant from the base on one benchmark.

    Args:
        run: the run's files.
        long: the run's long table.
        metric: the benchmark's metric.
        series: the number of each variant's look (see `style.look`).

    Returns:
        Intervals in the metric's unit. They are paired by document if the long table has paired differences.
    """
    return _paired(long, metric, series) or _unpaired(run, metric, series)


def _paired(long: pd.DataFrame, metric: Metric, series: Mapping[str, int]) -> list[Interval]:
    rows = [] if long.empty else long[long.metric == metric.name + DELTA].to_dict("records")
    gaps = {str(r["variant"]): [metric.scaled(float(r[k])) for k in ("value", "low", "high")] for r in rows}
    return [Interval(n, gaps[n][0], gaps[n][1], gaps[n][2], i) for n, i in series.items() if n in gaps]


def _unpaired(run: RunFiles, metric: Metric, series: Mapping[str, int]) -> list[Interval]:
    """Return differences whose intervals combine both standard errors, which makes them wider than paired ones."""
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
    """Return whether each paired difference is significant after Holm's correction, where p is known."""
    if long.empty or "p" not in long:
        return {}
    rows = long[(long.metric == metric.name + DELTA) & long.p.notna()]
    return {str(r["variant"]): bool(r["p"] <= ALPHA) for r in rows.to_dict("records")}


def _summary(rows: list[Interval], metric: Metric, separated: Mapping[str, bool]) -> str:
    def described(row: Interval) -> str:
        return f"{row.name} ({signed_minus(f'{row.value:+.{metric.digits}f}')} {metric.difference_unit})"

    apart = [r for r in rows if separated.get(r.name, True)]
    less, more = [described(r) for r in apart if r.high < 0], [described(r) for r in apart if r.low > 0]
    words = {True: ("worse", "better"), False: ("better", "worse"), None: ("lower", "higher")}[metric.higher_is_better]
    parts = {f"{word} than the base": several for word, several in zip(words, (less, more), strict=True) if several}
    text = "; ".join(f"{word}: {', '.join(several)}" for word, several in parts.items())
    holm = " (p after Holm)" if separated else ""
    return (text or "no variant can be told from the base") + holm
