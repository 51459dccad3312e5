"""Draw a chart inline on the page, or write it as SVG and PNG files for papers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from textwrap import fill
from typing import Any

from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prefzoo.evals.report.style import CARD, GRID, SOFT, look
from prefzoo.evals.report.svg import Mark, inline

WIDTH, HEIGHT = 400, 250  # of a chart, in points; also the units of the page's viewBox
POINTS_PER_INCH = 72
DPI = 150
MOST_NAMES = 24  # in a legend; with more names there is no legend
NAMES, ROW = 3, 18  # of a legend: names in a row below each chart, height of a row in points
TITLE = 48  # characters in a line of a chart's title
SETTINGS = {
    "font.size": 12, "axes.labelsize": 12, "axes.titlesize": 12, "xtick.labelsize": 12, "ytick.labelsize": 12,
    "legend.fontsize": 12, "text.color": SOFT, "axes.labelcolor": SOFT, "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT, "xtick.major.size": 0, "ytick.major.size": 0, "ytick.major.pad": 7,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 1, "axes.axisbelow": True, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.spines.bottom": False,
    "figure.facecolor": CARD, "savefig.facecolor": CARD,
}  # fmt: skip
PADDING = {"figure.constrained_layout.h_pad": 0.1, "figure.constrained_layout.w_pad": 0.1}  # inches, in files


@dataclass(frozen=True)
class Chart:
    """A chart on one pair of axes. A template writes it as an `<svg>` element.

    Attributes:
        title: a short name.
        description: the chart in words, with its numbers.
        draw: draws onto empty axes, and returns the marks that belong to variants.
        height: height in points, at a width of `WIDTH`.
        legend: the number of each series' look (see `style.look`), by name, for names that are not on an axis.
    """

    title: str
    description: str
    draw: Callable[[Axes], list[Mark]]
    height: float = HEIGHT
    legend: Mapping[str, int | None] = field(default_factory=dict)

    def __html__(self) -> str:
        """Return the chart as an `<svg>` element. Templates and markupsafe call this method."""
        with styled(SETTINGS):
            figure = Figure(figsize=_inches(WIDTH, self.height), layout="constrained")
            marks = self.draw(_bare(figure, figure.add_subplot()))
            by_id = {f"mark{i}": mark for i, mark in enumerate(marks)}
            for key, mark in by_id.items():
                mark.artist.set_gid(key)
            texts = {"title": self.title, "desc": self.description}
            return inline(_svg(figure), by_id, {"class": "chart", "role": "img"}, texts)


@contextmanager
def styled(settings: dict[str, Any]) -> Iterator[None]:
    """Draw with matplotlib's defaults and `settings` inside a `with` block, and ignore the user's matplotlibrc.

    A `$` in a name starts no formula, text in SVG stays text, and the same chart gives the same bytes.
    """
    fixed = {"svg.fonttype": "none", "svg.hashsalt": "prefzoo", "text.parse_math": False}
    with style.context(["default", fixed | settings]), warnings.catch_warnings():
        # Names may be in any script; a browser has the letters that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@cache
def swatch(series: int | None) -> Markup:
    """Return the marker of a series as a small `<svg>` element. Screen readers skip it, as its name is next to it."""
    with styled(SETTINGS):
        figure = Figure(figsize=_inches(16, 16))
        axes = _bare(figure, figure.add_axes((0, 0, 1, 1)))
        axes.set_axis_off()
        axes.set(xlim=(-1, 1), ylim=(-1, 1))
        axes.plot(0, 0, **look(series).mark())
        return inline(_svg(figure), {}, {"class": "swatch", "aria-hidden": "true"}, {})


def save(charts: Sequence[Chart], path: Path, columns: int = 1) -> list[Path]:
    """Write charts side by side as one picture.

    Args:
        charts: at least one chart. Each gets its title above it, unless it draws one itself.
        path: the path of the picture, without a suffix.
        columns: number of charts in a row.

    Returns:
        The paths of the SVG and the PNG file.
    """
    rows = -(-len(charts) // columns)
    legend = {name: series for chart in charts for name, series in chart.legend.items()}
    if len(legend) > MOST_NAMES:
        legend = {}
    with styled(SETTINGS | PADDING):
        height = max(c.height for c in charts) * rows + ROW * -(-len(legend) // (NAMES * columns))
        figure = Figure(figsize=_inches(WIDTH * columns, height), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(charts) :]:
            axes.set_axis_off()
        for axes, chart in zip(grid.flat, charts, strict=False):
            chart.draw(axes)
            if not axes.get_title(loc="left"):
                axes.set_title(fill(chart.title, TITLE))
        if legend:
            _add_legend(figure, legend, NAMES * columns)
        return save_figure(figure, path, ("svg", "png"), DPI)


def _add_legend(figure: Figure, legend: Mapping[str, int | None], columns: int) -> None:
    """Add a legend of all series below the charts, the base last."""
    entries = sorted(legend.items(), key=lambda entry: entry[1] is None)
    handles = [Line2D([], [], **look(series).mark() | look(series).line()) for _, series in entries]
    names = [name for name, _ in entries]
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, handlelength=3)


def save_figure(figure: Figure, path: Path, suffixes: Sequence[str], dpi: float) -> list[Path]:
    """Write a figure once per suffix, without the date in its metadata.

    Args:
        figure: the figure.
        path: the path of the files, without a suffix.
        suffixes: the formats, such as `svg` and `png`.
        dpi: dots per inch of pixel formats.

    Returns:
        The paths of the files.
    """
    written = [path.with_name(f"{path.name}.{suffix}") for suffix in suffixes]
    for file in written:
        figure.savefig(file, dpi=dpi, metadata={"Date": None} if file.suffix == ".svg" else None)
    return written


def _bare(figure: Figure, axes: Axes) -> Axes:
    """Hide the backgrounds, since the page has its own."""
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    return axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _inches(width: float, height: float) -> tuple[float, float]:
    return width / POINTS_PER_INCH, height / POINTS_PER_INCH
