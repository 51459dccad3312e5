"""What training cost on benchmarks: differences from the base, the alignment tax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import pandas as pd

from prefzoo.evals.boards.leaderboard import BASE
from prefzoo.evals.boards.run_files import RunFiles
from prefzoo.evals.metrics.estimates import PLAIN
from prefzoo.evals.report.canvas import Chart
from prefzoo.evals.report.charts import Interval, interval_chart
from prefzoo.evals.report.numbers import DELTA, amount, name_of, signed_minus

Z = 1.96  # of a 95% interval
POINTS = 100


@dataclass(frozen=True)
class Delta:
    """One benchmark: its picture, a sentence of what it shows, and whether intervals are paired by document."""

    suite: str
    base: str
    chart: Chart
    says: str
    paired: bool


def deltas(run: RunFiles, long: pd.DataFrame, series: Mapping[str, int]) -> list[Delta]:
    """Every benchmark that the base and some variant were measured on."""
    found = []
    for suite, of_base in suites_of(run).items():
        paired = _paired(long, suite, series)
        rows, unit = rows_of(run, long, suite, series), unit_of(suite)
        better = " (less is better)" if of_base.get("higher_is_better") is False else ""
        chart = interval_chart(rows, f"{name_of(suite)}: difference from the base, in {unit}{better}", 0.0)
        if chart is not None:
            level = f"{amount(suite, of_base['value'])} (n = {of_base['n']:.0f})"
            found.append(Delta(name_of(suite), level, chart, _says(rows, suite), bool(paired)))
    return found


def unit_of(suite: str) -> str:
    """What differences are in: points of a hundred, or the number's own unit."""
    return "bits per byte" if suite in PLAIN else "points"


def _scale(suite: str) -> float:
    return 1 if suite in PLAIN else POINTS


def suites_of(run: RunFiles) -> dict[str, dict[str, float]]:
    """The base's numbers, by benchmark."""
    base = run.variants.get(BASE)
    return base.measured.benchmarks if base is not None and base.measured is not None else {}


def rows_of(run: RunFiles, long: pd.DataFrame, suite: str, series: Mapping[str, int]) -> list[Interval]:
    """Differences from the base in points: paired by document where the long table has these."""
    return _paired(long, suite, series) or _unpaired(run, suite, suites_of(run)[suite], series)


def _paired(long: pd.DataFrame, suite: str, series: Mapping[str, int]) -> list[Interval]:
    rows = [] if long.empty else long[long.metric == suite + DELTA].to_dict("records")
    found = {str(r["variant"]): [_scale(suite) * float(r[k]) for k in ("value", "low", "high")] for r in rows}
    return [Interval(n, found[n][0], found[n][1], found[n][2], i) for n, i in series.items() if n in found]


def _unpaired(run: RunFiles, suite: str, base: dict[str, float], series: Mapping[str, int]) -> list[Interval]:
    """From both standard errors; wider than if documents were paired."""
    rows = []
    for name, i in series.items():
        measured = run.variants[name].measured if name in run.variants else None
        mine = measured.benchmarks.get(suite) if measured is not None else None
        if mine is None:
            continue
        change = _scale(suite) * (mine["value"] - base["value"])
        reach = _scale(suite) * Z * sqrt(mine.get("stderr", 0.0) ** 2 + base.get("stderr", 0.0) ** 2)
        rows.append(Interval(name, change, change - reach, change + reach, i))
    return rows


def _says(rows: list[Interval], suite: str) -> str:
    def told(row: Interval) -> str:
        return f"{row.name} ({signed_minus(f'{row.value:+.{PLAIN.get(suite, 1)}f}')} {unit_of(suite)})"

    lost, won = [told(r) for r in rows if r.high < 0], [told(r) for r in rows if r.low > 0]
    said = [f"lower than the base: {', '.join(lost)}"] if lost else []
    said += [f"higher than the base: {', '.join(won)}"] if won else []
    return "; ".join(said) or "no variant can be told from the base"
