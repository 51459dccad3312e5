"""A chart as a value that can be drawn anywhere: inline on the page, or as SVG and PNG files for papers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefzoo.evals.report import svg
from prefzoo.evals.report.style import CARD, COLOURED, GRID, SOFT, look

WIDTH, HEIGHT = 400, 250  # of a chart, in points; also the units of the page's viewBox
POINTS_PER_INCH = 72
DPI = 150
SETTINGS = {
    "font.size": 12, "axes.labelsize": 12, "axes.titlesize": 12, "xtick.labelsize": 12, "ytick.labelsize": 12,
    "legend.fontsize": 12, "text.color": SOFT, "axes.labelcolor": SOFT, "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT, "xtick.major.size": 0, "ytick.major.size": 0, "ytick.major.pad": 7, "axes.grid": True, "grid.color": GRID,
    "grid.linewidth": 1, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "axes.spines.bottom": False, "axes.titlelocation": "left",
    "figure.facecolor": CARD, "savefig.facecolor": CARD,
}  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A drawn thing that belongs to a variant; `kind` and `words` as in `svg.Label`."""

    artist: Artist
    kind: str
    variant: str
    words: str = ""


@dataclass(frozen=True)
class Chart:
    """What one pair of axes shows. A template that is given one writes it as an `<svg>` element.

    Attributes:
        title: a short name.
        description: the chart in words, with its numbers.
        draw: draws onto empty axes and returns what belongs to a variant.
        height: in points, at a width of `WIDTH`.
        legend: whether a file needs a legend, because names do not stand on an axis.
    """

    title: str
    description: str
    draw: Callable[[Axes], list[Mark]]
    height: float = HEIGHT
    legend: bool = False

    def __html__(self) -> str:
        """Return the chart as an `<svg>` element; templates and markupsafe call this."""
        with styled(SETTINGS):
            figure = Figure(figsize=_inches(WIDTH, self.height), layout="constrained")
            marks = self.draw(_bare(figure, figure.add_subplot()))
            labels = {}
            for i, mark in enumerate(marks):
                mark.artist.set_gid(f"mark{i}")
                labels[f"mark{i}"] = svg.Label(mark.kind, mark.variant, mark.words)
            return svg.inline(_svg(figure), labels, title=self.title, description=self.description)


@contextmanager
def styled(settings: dict[str, Any]) -> Iterator[None]:
    """Draw with matplotlib's defaults and `settings`, whatever a user's matplotlibrc says; undone after it.

    Names are never read as formulas (`$`), letters in SVG stay letters, and the same chart gives the same bytes.
    """
    fixed = {"svg.fonttype": "none", "svg.hashsalt": "prefzoo", "text.parse_math": False}
    with style.context(["default", fixed | settings]), warnings.catch_warnings():
        # Names may be in any script: a browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@cache
def swatch(series: int | None) -> Markup:
    """Return the marker of a series as a small `<svg>` element."""
    with styled(SETTINGS):
        figure = Figure(figsize=_inches(16, 16))
        axes = _bare(figure, figure.add_axes((0, 0, 1, 1)))
        axes.set_axis_off()
        axes.set(xlim=(-1, 1), ylim=(-1, 1))
        axes.plot(0, 0, **look(series).mark())
        return svg.swatch(_svg(figure))


def save(charts: Sequence[Chart], path: Path, columns: int = 1) -> list[Path]:
    """Write charts side by side as one picture.

    Args:
        charts: at least one; several have their titles above them.
        path: of the picture, without a suffix.
        columns: charts in a row.

    Returns:
        The paths of the SVG and the PNG file.
    """
    rows = -(-len(charts) // columns)
    with styled(SETTINGS):
        size = _inches(WIDTH * columns, max(c.height for c in charts) * rows)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        handles: dict[str, Artist] = {}
        for axes in grid.flat[len(charts) :]:
            axes.set_axis_off()
        for axes, chart in zip(grid.flat, charts, strict=False):
            marks = chart.draw(axes)
            if len(charts) > 1:
                axes.set_title(chart.title)
            if chart.legend:
                handles |= {m.variant: m.artist for m in marks if m.kind == "mark"}
        if 0 < len(handles) <= COLOURED + 1:  # further series look alike
            figure.legend(
                list(handles.values()), list(handles), loc="outside lower center", ncols=3 * columns, frameon=False
            )
        return save_figure(figure, path, ("svg", "png"), DPI)


def save_figure(figure: Figure, path: Path, suffixes: Sequence[str], dpi: float) -> list[Path]:
    """Write a figure once per suffix, without the time of writing, and return the paths."""
    written = [path.with_name(f"{path.name}.{suffix}") for suffix in suffixes]
    for file in written:
        figure.savefig(file, dpi=dpi, metadata={"Date": None} if file.suffix == ".svg" else None)
    return written


def _bare(figure: Figure, axes: Axes) -> Axes:
    """Leave out the backgrounds: the page has its own."""
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    return axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _inches(width: float, height: float) -> tuple[float, float]:
    return width / POINTS_PER_INCH, height / POINTS_PER_INCH
