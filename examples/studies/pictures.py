"""Pictures of the page, by the tool's own charts: a loss has the colour and the marker that it has in every report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefzoo.evals.report import canvas
from prefzoo.evals.report.canvas import Chart
from prefzoo.evals.report.charts import Interval, ScatterPoint, interval_chart, scatter
from prefzoo.evals.report.style import series_numbers

SHIFT = 0.4  # points of the axis between losses at the same share of flipped labels, so that intervals do not overlap
Numbers = Mapping[str, Any]


def draw(numbers: Numbers, folder: Path) -> list[Path]:
    """Draw a picture for every study that has numbers, as SVG.

    Args:
        numbers: by study, as `page.read_numbers` returns them.
        folder: of the pictures.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, chart_of in PICTURES.items():
        charts = chart_of(numbers)
        if charts:
            svg, png = canvas.save(charts, folder / name, len(charts))
            png.unlink()  # a page needs no copy that does not scale
            drawn.append(svg)
    return drawn


def _arms(numbers: Numbers) -> list[Chart]:
    return _in_both_arms(numbers, "variants", "value", "win rate, %")


def _differences(numbers: Numbers) -> list[Chart]:
    return _in_both_arms(numbers, "differences", "difference", "win rate less that of dpo, points", 0.0)


def _in_both_arms(
    numbers: Numbers, table: str, value: str, across: str, reference: float | None = None
) -> list[Chart]:  # fmt: skip
    """Chart a table of each arm that has run, with the losses in the order of the first."""
    titles = {"defaults": "One setting for all losses", "tuned": "Each loss tuned"}
    known = {name: numbers[name][table] for name in titles if name in numbers}
    order = [row["variant"] for rows in [*known.values()][:1] for row in rows]
    known = {name: sorted(rows, key=lambda row: order.index(row["variant"])) for name, rows in known.items()}
    return _charts(
        _intervals(rows, titles[name], value, "low", "high", across, reference) for name, rows in known.items()
    )


def _displacement(numbers: Numbers) -> list[Chart]:
    if "displacement" not in numbers:
        return []
    rows = numbers["displacement"]["displacement"]["variants"]
    title = "Change of the chosen answer's log-prob, nats"
    return _charts([_intervals(rows, title, "chosen_change", "chosen_low", "chosen_high", "", 0.0)])


def _overoptimisation(numbers: Numbers) -> list[Chart]:
    if "overoptimisation" not in numbers:
        return []
    rows = numbers["overoptimisation"]["frontier"]
    points: dict[str, list[ScatterPoint]] = {}
    for loss in dict.fromkeys(row["loss"] for row in rows):
        own = [row for row in rows if row["loss"] == loss]
        look = series_numbers({row["variant"]: loss for row in own})
        points[loss] = [
            ScatterPoint(r["variant"], r["kl"], r["reward"], r["low"], r["high"], look[r["variant"]]) for r in own
        ]
    every = [point for several in points.values() for point in several]
    charts = [
        scatter(
            several, loss, "KL from the reference, nats", f"{loss}: checks passed, %", joined=True, beside=every,
        )
        for loss, several in points.items()
    ]  # fmt: skip
    return _charts(charts)


def _noise(numbers: Numbers) -> list[Chart]:
    shares = {name: float(name.removeprefix("noise_")) for name in numbers if name.startswith("noise_")}
    if not shares:
        return []
    losses = [row["variant"] for row in numbers[min(shares)]["variants"]]
    look = series_numbers({name: name for name in sorted(losses)})
    points = [
        ScatterPoint(
            row["variant"], share + SHIFT * sorted(losses).index(row["variant"]), row["value"], row["low"], row["high"],
            look[row["variant"]],
        )
        for name, share in sorted(shares.items(), key=lambda item: item[1])
        for row in numbers[name]["variants"]
    ]  # fmt: skip
    return _charts([scatter(points, "Flipped labels", "labels flipped, %", "win rate, %", joined=True)])


def _intervals(
    rows: Sequence[Numbers], title: str, value: str, low: str, high: str, across: str, reference: float | None = None
) -> Chart | None:
    look = series_numbers({row["variant"]: row["variant"] for row in sorted(rows, key=lambda row: str(row["variant"]))})
    bars = [Interval(r["variant"], r[value], r[low], r[high], look[r["variant"]]) for r in rows]
    return interval_chart(bars, title, reference, across)


def _charts(charts: Any) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


PICTURES: dict[str, Callable[[Numbers], list[Chart]]] = {
    "arms": _arms, "differences": _differences, "displacement": _displacement, "overoptimisation": _overoptimisation,
    "noise": _noise,
}  # fmt: skip
