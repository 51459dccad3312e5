"""The parts that charts share: scales with round ticks, numbers as text, and a look for every variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

COLOURED = 7  # series that have a colour, a dash and a marker of their own; further ones are thin grey lines
LONGEST = 16  # letters of a name inside a chart; the whole name is in its title
THOUSAND, MILLION = 1e4, 1e6
MARKERS = (  # around (0, 0), about 10 units wide; by the number of the series
    '<circle r="4.5"/>',
    '<path d="M-4.2-4.2h8.4v8.4h-8.4z"/>',
    '<path d="M0-5.4 5.2 4.2h-10.4z"/>',
    '<path d="M0-6 6 0 0 6-6 0z"/>',
    '<path d="M0 5.4-5.2-4.2h10.4z"/>',
    '<path d="M-1.8-5.4h3.6v3.6h3.6v3.6h-3.6v3.6h-3.6v-3.6h-3.6v-3.6h3.6z"/>',
    '<path d="M0-5.8 1.7-1.8 5.6-1.8 2.6 1 3.6 5-0 2.6-3.6 5-2.6 1-5.6-1.8-1.7-1.8z"/>',
)
OTHER = '<circle r="3"/>'


@dataclass(frozen=True)
class Scale:
    """Values `low` to `high` drawn from `start` to `end`, in units of the viewBox."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value stands."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values inside the scale."""
        found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        slack = (self.high - self.low) * 1e-9
        return [float(v) for v in found if self.low - slack <= v <= self.high + slack]


def scale(values: Sequence[float], start: float, end: float, room: float = 0.06) -> Scale:
    """A scale that holds all finite `values`, with some room at both ends; around a lone value one unit."""
    finite = [v for v in values if isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    spare = (high - low) * room or abs(low) * 0.5 or 0.5
    return Scale(low - spare, high + spare, start, end)


def short(value: float, *, percent: bool = False) -> str:
    """A number as an axis has it."""
    if percent:
        return f"{100 * value:.4g}%"
    size = abs(value)
    if size >= MILLION:
        return f"{value / MILLION:.3g}M"
    if size >= THOUSAND:
        return f"{value / 1000:.3g}k"
    if isfinite(value) and 1000 <= size < THOUSAND:  # noqa: PLR2004  # .3g would write 4e+03
        return f"{value:.0f}".replace("-", "\N{MINUS SIGN}")
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def clipped(name: str) -> str:
    """A name that fits beside a chart."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def look(series: int | None) -> str:
    """The CSS class of a series: its colour and dashes. None is the base; beyond `COLOURED`, one among the others."""
    if series is None:
        return "s-base"
    return f"s{series}" if series < COLOURED else "s-other"


def marker(x: float, y: float, series: int | None, name: str, said: str, more: str = "") -> str:
    """A marker with the words that a pointer shows over it."""
    shape = MARKERS[series] if series is not None and series < COLOURED else OTHER
    return (
        f'<g class="mark {look(series)} {more}" data-variant="{escape(name)}" '
        f'transform="translate({x:.1f} {y:.1f})"><title>{escape(f"{name}: {said}")}</title>{shape}</g>'
    )


def frame(width: int, height: int, title: str, said: str, parts: Sequence[str]) -> Markup:
    """An SVG picture with its title and what it says in words."""
    head = f'<svg class="chart" role="img" viewBox="0 0 {width} {height}" data-width="{width}">'
    words = f"<title>{escape(title)}</title><desc>{escape(said)}</desc>"
    return Markup("".join([head, words, *parts, "</svg>"]))


def text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "") -> str:
    """A line of text whose middle is at `y`."""
    role = f' class="{kind}"' if kind else ""
    return f'<text{role} x="{x:.1f}" y="{y:.1f}" dy=".35em" text-anchor="{anchor}">{escape(words)}</text>'
