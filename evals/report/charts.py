"""Charts as SVG text: they need no script, take their colours from CSS variables, and say in words what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, isfinite, log10, nan

from markupsafe import Markup, escape

from prefzoo.evals.report.axes import Scale, clipped, frame, look, marker, scale, short, text

WIDTH, ROW = 400, 30  # units of the viewBox
LETTER = 7.2  # width of an average one
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 24, 40
EDGE = 8  # above the rows of an interval chart
HEIGHT = 250


@dataclass(frozen=True)
class Interval:
    """A named value with its interval, in the unit of the axis; `series` as in `axes.look`."""

    name: str
    value: float
    low: float
    high: float
    series: int | None = 0


@dataclass(frozen=True)
class Point:
    """A named place in a plane, with the interval of its height; `hollow`: a second kind of the same variant."""

    name: str
    x: float
    y: float
    low: float = nan
    high: float = nan
    series: int | None = 0
    hollow: bool = False


@dataclass(frozen=True)
class Line:
    """A variant's values over steps."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    series: int | None = 0


def interval_chart(
    rows: Sequence[Interval], title: str, reference: float | None = None, *, percent: bool = False
) -> Markup:
    """A row per name: a point on its interval, with a dashed line at `reference` (no difference).

    Empty without finite rows; a row whose value or bounds are not finite is left out.
    """
    rows = [r for r in rows if all(map(isfinite, (r.value, r.low, r.high)))]
    if not rows:
        return Markup()
    left = 14 + LETTER * max(len(clipped(r.name)) for r in rows)
    ends = [x for r in rows for x in (r.low, r.high)] + ([] if reference is None else [reference])
    axis = scale(ends, left, WIDTH - 16)
    bottom = EDGE + ROW * len(rows)
    parts = [_grid_x(axis, EDGE, bottom, percent)]
    if reference is not None:
        parts.append(_line("reference", axis.at(reference), axis.at(reference), EDGE - 4, bottom + 4))
    for i, r in enumerate(rows):
        y = EDGE + ROW * i + ROW / 2
        said = (
            f"{short(r.value, percent=percent)} ({short(r.low, percent=percent)} to {short(r.high, percent=percent)})"
        )
        parts += [
            text(left - 12, y, clipped(r.name), "end", "name"),
            _line(f"interval {look(r.series)}", axis.at(r.low), axis.at(r.high), y, y),
            marker(axis.at(r.value), y, r.series, r.name, said),
        ]
    said = "; ".join(f"{r.name}: {r.value:.3g} ({r.low:.3g} to {r.high:.3g})" for r in rows)
    return frame(WIDTH, int(bottom + 26), title, said, parts)


def scatter(
    points: Sequence[Point], title: str, across: str, up: str, *, percent: bool = False, joined: bool = False
) -> Markup:
    """Points with the intervals of their heights, on named axes; `joined` ones of a name in the order given.

    Empty without finite points.
    """
    points = [p for p in points if isfinite(p.x) and isfinite(p.y)]
    if not points:
        return Markup()
    x = scale([p.x for p in points], LEFT, WIDTH - RIGHT, 0.1)
    y = scale([v for p in points for v in (p.y, p.low, p.high)], HEIGHT - BOTTOM, TOP)
    parts = [_grid_x(x, TOP, HEIGHT - BOTTOM, False), _grid_y(y, percent), *_labels(across, up)]
    for name in dict.fromkeys(p.name for p in points):
        mine = [p for p in points if p.name == name]
        if joined and len(mine) > 1:
            parts.append(_path([(x.at(p.x), y.at(p.y)) for p in mine], name, mine[0].series))
    for p in points:
        if isfinite(p.low) and isfinite(p.high):
            parts.append(_line(f"interval thin {look(p.series)}", x.at(p.x), x.at(p.x), y.at(p.low), y.at(p.high)))
    for p in points:
        said = f"{up} {short(p.y, percent=percent)}, {across} {short(p.x)}"
        parts.append(marker(x.at(p.x), y.at(p.y), p.series, p.name, said, "hollow" if p.hollow else ""))
    said = "; ".join(f"{p.name}: {across} {p.x:.3g}, {up} {p.y:.3g}" for p in points)
    return frame(WIDTH, HEIGHT, title, said, parts)


def line_chart(lines: Sequence[Line], title: str, *, percent: bool = False, log: bool = False) -> Markup:
    """Values over steps, a line for each variant; what is not finite leaves a gap. Empty without finite values.

    `log`: heights are logarithms; values of zero or less leave a gap.
    """
    if log:
        lines = [replace(line, ys=[log10(v) if v > 0 else nan for v in line.ys]) for line in lines]
    lines = [line for line in lines if any(map(isfinite, line.ys))]

    def label(value: float) -> str:
        return short(10**value if log else value, percent=percent)

    if not lines:
        return Markup()
    x = Scale(min(min(k.xs) for k in lines), max(max(k.xs) for k in lines) + 1e-9, LEFT, WIDTH - RIGHT)
    y = scale([v for line in lines for v in line.ys], HEIGHT - BOTTOM, TOP)
    parts = [_grid_x(x, TOP, HEIGHT - BOTTOM, False), _grid_y(y, percent, log=log), *_labels("step", "")]
    for line in reversed(lines):  # the best stands on top
        run: list[tuple[float, float]] = []
        for at, value in zip(line.xs, line.ys, strict=True):
            if isfinite(value):
                run.append((x.at(at), y.at(value)))
            elif run:
                parts.append(_path(run, line.name, line.series))
                run = []
        if run:
            parts.append(_path(run, line.name, line.series))
            parts.append(marker(*run[-1], line.series, line.name, f"{label(line.ys[-1])} at the end"))
    said = "; ".join(
        f"{k.name}: {label(k.ys[0])} at step {k.xs[0]:.0f}, {label(k.ys[-1])} at {k.xs[-1]:.0f}" for k in lines
    )
    return frame(WIDTH, HEIGHT, title, said, parts)


def _grid_x(axis: Scale, top: float, bottom: float, percent: bool) -> str:
    drawn = [
        _line("rule", axis.at(v), axis.at(v), top, bottom)
        + text(axis.at(v), bottom + 12, short(v, percent=percent), kind="tick")
        for v in axis.ticks()
    ]
    return "".join(drawn)


def _grid_y(axis: Scale, percent: bool, *, log: bool = False) -> str:
    drawn = [
        _line("rule", LEFT, WIDTH - RIGHT, axis.at(v), axis.at(v))
        + text(LEFT - 6, axis.at(v), short(10**v if log else v, percent=percent), "end", "tick")
        for v in (_decades(axis) if log else axis.ticks())
    ]
    return "".join(drawn)


def _decades(axis: Scale) -> list[float]:
    """Whole powers of ten where there are two of them."""
    whole = [float(k) for k in range(ceil(axis.low), floor(axis.high) + 1)]
    return whole if len(whole) > 1 else axis.ticks()


def _labels(across: str, up: str) -> list[str]:
    found = [text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, across, kind="axis")]
    if up:  # above the axis, where it needs no turned letters
        found.append(text(4, 8, up, "start", "axis"))
    return found


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _path(places: Sequence[tuple[float, float]], name: str, series: int | None) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="line {look(series)}" data-variant="{escape(name)}" points="{points}"/>'
