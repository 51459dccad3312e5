"""The look of a series (colour, marker, dashes), the page's colours, and numbers and names as a chart shows them."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

LONGEST = 24  # characters of a name inside a chart; hovering shows the whole name
THOUSAND, MILLION = 1e4, 1e6

# Okabe and Ito's colours, darker where white asks for it. On the page each becomes the CSS variable of `VARIABLES`,
# so that it follows light and dark; page.css holds the same values for light.
COLOURS = ("#0072b2", "#d55e00", "#00825f", "#b0568c", "#b37a00", "#3487b5", "#5b5b5b")
INK, SOFT, GRID, CARD, OTHER = "#1c2127", "#596270", "#ecedeb", "#ffffff", "#a4a9b0"
VARIABLES = {colour: f"var(--c{i})" for i, colour in enumerate(COLOURS)} | {
    INK: "var(--ink)", SOFT: "var(--soft)", GRID: "var(--grid)", CARD: "var(--card)", OTHER: "var(--other)",
}  # fmt: skip
MARKERS = (("o", 9), ("s", 8.5), ("^", 10), ("D", 8), ("v", 10), ("P", 10), ("*", 13))  # shape and size in points
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-", (0, (3.5, 1.5)), (0, (1, 1.5)), (0, (4.5, 1.5, 1, 1.5)), (0, (2, 1)), (0, (6, 1.5)), (0, (0.5, 2)),
)  # fmt: skip
COLOURED = len(COLOURS)  # series with a colour, marker and dashes of their own; further ones are thin grey lines


@dataclass(frozen=True)
class Look:
    """How one series is drawn; sizes in points."""

    colour: str
    marker: str = "o"
    size: float = 6
    dashes: str | tuple[int, tuple[float, ...]] = "-"
    width: float = 1
    opacity: float = 0.5

    def line(self) -> dict[str, Any]:
        """Return matplotlib's keywords for a line of this series."""
        return {"color": self.colour, "linestyle": self.dashes, "linewidth": self.width, "alpha": self.opacity}

    def mark(self, *, hollow: bool = False) -> dict[str, Any]:
        """Return matplotlib's keywords for a marker; a hollow one is larger, so that both kinds show at one point."""
        drawn = {"marker": self.marker, "linestyle": "none", "markersize": self.size * (1.5 if hollow else 1)}
        if hollow:
            return drawn | {"markerfacecolor": "none", "markeredgecolor": self.colour, "markeredgewidth": 1.8}
        return drawn | {"markerfacecolor": self.colour, "markeredgecolor": CARD, "markeredgewidth": 1}


def look(series: int | None) -> Look:
    """Return the look of a series by its number, best first; None is the base."""
    if series is None:
        return Look(SOFT)
    if series >= COLOURED:
        return Look(OTHER)
    marker, size = MARKERS[series]
    return Look(COLOURS[series], marker, size, DASHES[series], width=2, opacity=1)


def short(value: float, *, percent: bool = False) -> str:
    """Return a number as an axis shows it."""
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
    """Return a name that fits beside a chart; what no font can draw (control characters, line breaks) is a space."""
    name = "".join(c if c.isprintable() else " " for c in name)
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
