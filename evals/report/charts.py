"""The kinds of charts, for the page and for papers. Each chart also describes its numbers in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, floor, isfinite, log10, nan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from prefzoo.evals.report.canvas import Chart
from prefzoo.evals.report.style import INK, SOFT, clipped, look, short
from prefzoo.evals.report.svg import Mark

ROW, AROUND, LABEL = 30, 36, 20  # heights in points: a named row, the space around all rows, an axis label
TICKS = 5
BOLD, FAINT = 12, {"linewidth": 1, "alpha": 0.45}  # number of bold lines, the best first; style of the others
DECADES = 6  # most labelled powers of ten on a logarithmic axis
LOSS, WIN = "#e8954a", "#3b8fcc"  # colours at the ends of the heat map, as in page.css
HALF = 0.5


@dataclass(frozen=True)
class Interval:
    """A named value with its interval, in the unit of the axis. `series`: the number of its look (see `style.look`)."""

    name: str
    value: float
    low: float
    high: float
    series: int | None = 0


@dataclass(frozen=True)
class ScatterPoint:
    """A named point with an interval in the vertical direction.

    Attributes:
        name: the variant.
        x, y: its place, in the units of the axes.
        low, high: the interval of `y`; NaN for none.
        series: the number of its look (see `style.look`).
        hollow: whether to draw it hollow, as the second kind of value of one variant.
        aside: distance from `x` at which it is drawn, so that points at one `x` do not cover each other.
    """

    name: str
    x: float
    y: float
    low: float = nan
    high: float = nan
    series: int | None = 0
    hollow: bool = False
    aside: float = 0.0

    @property
    def across(self) -> float:
        """The horizontal place at which it is drawn."""
        return self.x + self.aside


@dataclass(frozen=True)
class Line:
    """A variant's values `ys` at the steps `xs`."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    series: int | None = 0


def interval_chart(
    rows: Sequence[Interval], title: str, reference: float | None = None, across: str = "", *, percent: bool = False
) -> Chart | None:
    """Make a chart with one row per name, each a marker on its interval.

    Args:
        rows: the rows from top to bottom; those whose value or bounds are not finite are left out.
        title: the chart's title.
        reference: the value of a dashed line, which stands for no difference; None for no line.
        across: the label of the axis.
        percent: whether values are shares, to be shown in percent.

    Returns:
        The chart; None without finite rows.
    """
    rows = [r for r in rows if all(map(isfinite, (r.value, r.low, r.high)))]
    if not rows:
        return None
    description = "; ".join(f"{r.name}: {r.value:.3g} ({r.low:.3g} to {r.high:.3g})" for r in rows)
    draw = partial(_draw_intervals, rows=rows, reference=reference, across=across, percent=percent)
    return Chart(title, description, draw, height=AROUND + ROW * len(rows) + (LABEL if across else 0))


def scatter(
    points: Sequence[ScatterPoint], title: str, across: str, up: str, *, percent: bool = False, joined: bool = False,
    beside: Sequence[ScatterPoint] = (),
) -> Chart | None:  # fmt: skip
    """Make a chart of points with vertical intervals.

    Args:
        points: the points; those that are not finite are left out.
        title: the chart's title.
        across: the label of the horizontal axis.
        up: the label of the vertical axis.
        percent: whether vertical values are shares, to be shown in percent.
        joined: whether a line joins the points of one name, in the order given.
        beside: the points of charts beside this one, which the axes span too, so that all have one scale.

    Returns:
        The chart; None without finite points.
    """
    points = [p for p in points if isfinite(p.x) and isfinite(p.y)]
    if not points:
        return None
    description = "; ".join(f"{p.name}: {across} {p.x:.3g}, {up} {p.y:.3g}" for p in points)
    draw = partial(_draw_scatter, points=points, across=across, up=up, percent=percent, joined=joined, beside=beside)
    return Chart(title, description, draw, legend={p.name: p.series for p in points})


def line_chart(lines: Sequence[Line], title: str, *, percent: bool = False, log: bool = False) -> Chart | None:
    """Make a chart of values over steps.

    Args:
        lines: one line per variant, the best first; a value that is not finite leaves a gap.
        title: the chart's title.
        percent: whether values are shares, to be shown in percent.
        log: whether the vertical axis is logarithmic; values of zero or less leave a gap.

    Returns:
        The chart; None without finite values.
    """
    if log:
        lines = [replace(line, ys=[v if v > 0 else nan for v in line.ys]) for line in lines]
    lines = [line for line in lines if any(map(isfinite, line.ys))]
    if not lines:
        return None

    def label(value: float) -> str:
        return short(value, percent=percent)

    description = "; ".join(
        f"{k.name}: {label(k.ys[0])} at step {k.xs[0]:.0f}, {label(k.ys[-1])} at {k.xs[-1]:.0f}" for k in lines
    )
    draw = partial(_draw_lines, lines=lines, percent=percent, log=log)
    return Chart(title, description, draw, legend={line.name: line.series for line in lines})


def heat_map(names: Sequence[str], shares: Sequence[Sequence[float | None]], title: str) -> Chart:
    """Make a square heat map.

    Args:
        names: N names, of the rows from top to bottom and of the columns from left to right.
        shares: (N, N) shares in [0, 1] in which the row beats the column; None leaves a cell empty.
        title: the chart's title.

    Returns:
        The chart.
    """
    values = np.array([[nan if share is None else share for share in row] for row in shares])
    description = "; ".join(
        f"{names[i]} beats {names[j]}: {share:.0%}" for (i, j), share in np.ndenumerate(values) if isfinite(share)
    )
    draw = partial(_draw_heat_map, names=names, values=values)
    return Chart(title, description, draw, height=3 * AROUND + ROW * len(names))


def _draw_intervals(
    axes: Axes, rows: Sequence[Interval], reference: float | None, across: str, percent: bool
) -> list[Mark]:
    def label(value: float) -> str:
        return short(value, percent=percent)

    marks = []
    if reference is not None:
        axes.plot([reference] * 2, [-HALF, len(rows) - HALF], color=SOFT, linestyle=(0, (4, 4)), linewidth=1)
    for y, r in enumerate(rows):
        words = f"{r.name}: {label(r.value)} ({label(r.low)} to {label(r.high)})"
        marks += [_interval(axes, [r.low, r.high], [y, y], 3, r), _marker(axes, r.value, y, r, words)]
    axes.set_ylim(len(rows) - HALF, -HALF)  # the first row on top
    axes.set_yticks(range(len(rows)), [clipped(r.name) for r in rows], color=INK, fontsize=13)
    axes.margins(x=0.06)
    axes.set_xlabel(across)
    axes.grid(visible=False, axis="y")
    _ticks(axes.xaxis, percent=percent)
    return marks


def _draw_scatter(
    axes: Axes, points: Sequence[ScatterPoint], across: str, up: str, percent: bool, joined: bool,
    beside: Sequence[ScatterPoint],
) -> list[Mark]:  # fmt: skip
    axes.update_datalim([(p.across, y) for p in beside for y in (p.low, p.y, p.high) if isfinite(y)])
    marks = []
    for name in dict.fromkeys(p.name for p in points):
        mine = [p for p in points if p.name == name]
        if joined and len(mine) > 1:
            (line,) = axes.plot([p.across for p in mine], [p.y for p in mine], **look(mine[0].series).line())
            marks.append(Mark(line, "line", name))
    marks += [
        _interval(axes, [p.across, p.across], [p.low, p.high], 1.5, p)
        for p in points
        if isfinite(p.low) and isfinite(p.high)
    ]
    for p in points:
        words = f"{p.name}: {up} {short(p.y, percent=percent)}, {across} {short(p.x)}"
        marks.append(_marker(axes, p.across, p.y, p, words, hollow=p.hollow))
    axes.margins(0.1, 0.06)
    axes.set_xlabel(across)
    axes.set_title(up)  # above the axis, so that it need not be rotated
    _ticks(axes.xaxis)
    _ticks(axes.yaxis, percent=percent)
    return marks


def _draw_lines(axes: Axes, lines: Sequence[Line], percent: bool, log: bool) -> list[Mark]:
    marks = []
    for i, line in reversed(list(enumerate(lines))):  # the best line is drawn last, on top
        drawn_as = look(line.series).line() | ({} if i < BOLD else FAINT)
        (drawn,) = axes.plot(line.xs, line.ys, **drawn_as, solid_joinstyle="round", clip_on=False)
        marks.append(Mark(drawn, "line", line.name))
        if isfinite(line.ys[-1]):
            words = f"{line.name}: {short(line.ys[-1], percent=percent)} at the end"
            marks.append(_marker(axes, line.xs[-1], line.ys[-1], line, words))
    if log:
        axes.set_yscale("log")
    first, last = min(min(k.xs) for k in lines), max(max(k.xs) for k in lines)
    axes.set_xlim(first, last if last > first else first + 1)
    axes.margins(y=0.06)
    axes.set_xlabel("step")
    _ticks(axes.xaxis)
    _ticks(axes.yaxis, percent=percent, log=log)
    return marks


def _draw_heat_map(axes: Axes, names: Sequence[str], values: np.ndarray) -> list[Mark]:
    colours = LinearSegmentedColormap.from_list("wins", [LOSS, "white", WIN])
    axes.pcolormesh(values, cmap=colours, vmin=0, vmax=1, edgecolors="white", linewidth=2)
    for (i, j), share in np.ndenumerate(values):
        if isfinite(share):
            axes.text(j + HALF, i + HALF, f"{share:.0%}", color=INK, ha="center", va="center")
    at, short_names = [i + HALF for i in range(len(names))], [clipped(n) for n in names]
    axes.set_xticks(at, short_names, rotation=45, ha="right")
    axes.set_yticks(at, short_names, color=INK)
    axes.set_ylim(len(names), 0)
    axes.grid(visible=False)
    axes.set_title("row beats column")
    return []


def _interval(axes: Axes, xs: list[float], ys: list[float], width: float, of: Interval | ScatterPoint) -> Mark:
    colour = look(of.series).colour
    (line,) = axes.plot(xs, ys, color=colour, linewidth=width, alpha=0.55, solid_capstyle="round", clip_on=False)
    return Mark(line, "interval", of.name)


def _marker(
    axes: Axes, x: float, y: float, of: Interval | ScatterPoint | Line, words: str, *, hollow: bool = False
) -> Mark:
    (marker,) = axes.plot(x, y, **look(of.series).mark(hollow=hollow), clip_on=False)
    return Mark(marker, "mark", of.name, words)


def _ticks(axis: Axis, *, percent: bool = False, log: bool = False) -> None:
    """Set a few round ticks inside the axis limits, which must not change afterwards."""
    low, high = sorted(axis.get_view_interval())

    def label(value: float, _: int) -> str:
        return short(value if abs(value) > (high - low) * 1e-9 else 0.0, percent=percent)  # rounding errors are zero

    decades = range(ceil(log10(low)), floor(log10(high)) + 1) if log else []
    axis.set_major_locator(
        FixedLocator([10.0**k for k in decades[:: ceil(len(decades) / DECADES)]])
        if len(decades) > 1
        else MaxNLocator(TICKS, steps=[1, 2, 2.5, 5, 10])
    )
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(label))
