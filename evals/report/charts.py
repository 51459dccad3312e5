"""Charts as SVG text: they need no script, take their colours from CSS variables, and say in words what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from markupsafe import Markup, escape

ROW, TOP, LABEL, WIDTH, END = 28, 12, 160, 640, 24  # units of the viewBox


@dataclass(frozen=True)
class Interval:
    """A named value with its interval, in the unit of the axis."""

    name: str
    value: float
    low: float
    high: float


def interval_chart(rows: Sequence[Interval], title: str, reference: float | None = None) -> Markup:
    """A row per name: a point on its interval, with a dashed line at `reference` (no difference). Empty without finite rows.

    A row whose value or bounds are not finite is left out.
    """
    rows = [r for r in rows if all(map(isfinite, (r.value, r.low, r.high)))]
    if not rows:
        return Markup()
    ends = [x for r in rows for x in (r.low, r.high)] + ([] if reference is None else [reference])
    least, span = min(ends), (max(ends) - min(ends)) or 1.0
    height = TOP * 2 + ROW * len(rows)

    def x(value: float) -> str:
        return f"{LABEL + (value - least) / span * (WIDTH - LABEL - END):.1f}"

    said = "; ".join(f"{r.name}: {r.value:.3g} ({r.low:.3g} to {r.high:.3g})" for r in rows)
    parts = [
        f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {height}">',
        f"<title>{escape(title)}</title><desc>{escape(said)}</desc>",
    ]
    if reference is not None:
        at = x(reference)
        parts.append(f'<line class="reference" x1="{at}" x2="{at}" y1="0" y2="{height}" stroke-dasharray="4 4"/>')
    for i, r in enumerate(rows):
        y = TOP + ROW * i + ROW // 2
        parts += [
            f'<text x="{LABEL - 12}" y="{y}" text-anchor="end" dominant-baseline="middle">{escape(r.name)}</text>',
            f'<line class="interval" x1="{x(r.low)}" x2="{x(r.high)}" y1="{y}" y2="{y}"/>',
            f'<circle class="point" cx="{x(r.value)}" cy="{y}" r="5"/>',
        ]
    return Markup("".join([*parts, "</svg>"]))
