"""The table and the pictures of what `bench.py` measured."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from plans import NOTES, Case

from prefzoo.evals.report.canvas import save_figure, styled

VERSIONS = ("python", "torch", "transformers", "prefzoo")
NAMES = {"trl": "TRL", "trl_liger": "TRL with Liger", "prefzoo": "prefzoo", "side": "side by side"}
COLOURS = {"trl": "#999999", "trl_liger": "#555555", "prefzoo": "#0072b2", "side": "#d55e00"}
AXES = {"pairs": "pairs", "length": "tokens of a prompt and its answer", "losses": "losses"}
DPI = 120
Known = dict[str, dict[str, list[dict[str, Any]]]]


def middle(known: Known, case: Case, tool: str, quantity: str) -> float | None:
    """Median over rounds; None where it could not be measured."""
    result = [m[quantity] for m in known.get(case.name, {}).get(tool, []) if quantity in m]
    return float(median(result)) if result else None


def table(plan: str, cases: list[Case], known: Known, rows: str, here: dict[str, Any]) -> str:
    """Markdown: medians of both tools and their ratios; why a number is missing."""
    first, second = (NAMES[tool] for tool in cases[0].tools)
    columns = (f"{first} s", f"{second} s", "times faster", f"{first} GB", f"{second} GB", "share of memory")
    head = f"| case | pairs | {' | '.join(columns)} | rounds |"
    lines, missing = [head, "|" + "---|" * 9], []
    for case in cases:
        seconds = [middle(known, case, tool, "seconds") for tool in case.tools]
        peaks = [middle(known, case, tool, "peak_bytes") for tool in case.tools]
        rates = _ratio(*seconds), _ratio(*reversed(peaks))
        cells = [*(_cell(s, 1) for s in seconds), rates[0], *(_cell(p, 1e9, 2) for p in peaks), rates[1]]
        lines.append(f"| {case.name} | {case.pairs} | {' | '.join(cells)} | {case.rounds} |")
        for tool in case.tools:
            told = [m["failed"] for m in known.get(case.name, {}).get(tool, []) if "failed" in m]
            if middle(known, case, tool, "seconds") is None:
                missing.append(f"- {case.name}, {NAMES[tool]}: {told[0] if told else 'not measured yet'}")
    rates = [line for case in cases if case.prepare for line in _pairs_per_second(known, case)]
    return "\n".join(
        [
            *lines,
            "",
            *rates,
            *([""] if rates else []),
            *missing,
            *([""] if missing else []),
            _foot(plan, cases, rows, here),
        ]
    )


def _pairs_per_second(known: Known, case: Case) -> list[str]:
    lines = []
    for tool in case.tools:
        wall, busy = (middle(known, case, tool, name) for name in ("seconds", "cpu_seconds"))
        if wall and busy:
            each = f"{1e3 * busy / case.pairs:.2f} ms of processor time each{_parts(known, case, tool)}"
            lines.append(f"- {case.name}, {NAMES[tool]}: {case.pairs / wall:,.0f} pairs/s, {each}")
    return lines


def _parts(known: Known, case: Case, tool: str) -> str:
    """What the parts of a preparation take; of one that was killed and went on, how often it was started."""
    last = known[case.name][tool][-1]
    if last.get("starts", 1) > 1:
        return f", in {last['starts']} starts, each of which reads and audits anew"
    times = [f"{name} {1e3 * seconds / case.pairs:.2f}" for name, seconds in last.get("parts", {}).items()]
    return f" ({', '.join(times)})" if times else ""


def gpu_table(plan: str, cases: list[Case], known: Known, rows: str, here: dict[str, Any]) -> str:
    """Markdown: a line for each tool, with the first and the second training in a process; ratios to TRL's line."""
    columns = ("case", "pairs", "tool", "first s", "second s", "peak GB", "times TRL's speed", "share of TRL's memory")
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for case in cases:
        for tool in case.tools:
            names = ("first_seconds" if case.turns > 1 else "seconds", "seconds", "peak_bytes")
            first, last, peak = (middle(known, case, tool, name) for name in names)
            failed = [m["failed"] for m in known.get(case.name, {}).get(tool, []) if "failed" in m]
            cells = [_cell(first, 1), _cell(last, 1, 2) if case.turns > 1 else "-", _cell(peak, 1e9, 2)]
            cells += [_ratio(middle(known, case, "trl", "seconds"), last)]
            cells += [_ratio(peak, middle(known, case, "trl", "peak_bytes"))]
            missing = "" if last is not None else f" ({failed[0] if failed else 'not measured yet'})"
            lines.append(f"| {case.name} | {case.pairs} | {NAMES[tool]}{missing} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _foot(plan, cases, rows, here)])


def _cell(value: float | None, scale: float, places: int = 1) -> str:
    return "-" if value is None else f"{value / scale:.{places}f}"


def _ratio(over: float | None, under: float | None) -> str:
    return "-" if over is None or under is None else f"{over / under:.2f}"


def _foot(plan: str, cases: list[Case], rows: str, here: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {here['versions'][name]}" for name in VERSIONS if name in here["versions"])
    hardware = here["hardware"]
    where = f"{hardware['gpu'] or hardware['processor']}, {hardware['cores']} cores, 2 threads"
    batch = "batch 4, " if all(case.batch == 4 for case in cases) else ""  # noqa: PLR2004 - the default
    peer = "TRL 1.16.0 without gradient checkpointing unless said; " if "trl" in cases[0].tools else ""
    model = "" if cases[0].size else "SmolLM2-135M, "
    memory = "" if cases[0].size else "peak memory of the process. "
    return (
        f"{NOTES[plan]}\n\n{model}{batch}rows of {rows} unless said, {peer}seconds from raw rows to the end "
        f"of training, medians over the rounds; {memory}{where}; {versions}; "
        f"commit {here['commit']}.\n"
    ).lstrip("\n")


def picture(cases: list[Case], known: Known, path: Path) -> None:
    """Write bars case by case, or curves where the cases are points of some."""
    with styled({"axes.spines.top": False, "axes.spines.right": False}):
        figure = _curves(cases, known) if cases[0].axis else _bars(cases, known)
        save_figure(figure, path.with_suffix(""), (path.suffix[1:],), DPI)


def _bars(cases: list[Case], known: Known) -> Figure:
    tools = list(dict.fromkeys(tool for case in cases for tool in case.tools))
    figure = Figure(figsize=(11, 0.25 * len(tools) * len(cases) + 1.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    wide = 0.8 / len(tools)
    for axis, quantity, scale, label in zip(
        axes, ("seconds", "peak_bytes"), (1, 1e9), ("seconds", "peak GB"), strict=True
    ):
        for nth, tool in enumerate(tools):
            points = [(i, middle(known, case, tool, quantity)) for i, case in enumerate(cases)]
            at = [i + (nth - (len(tools) - 1) / 2) * wide for i, value in points if value is not None]
            values = [value / scale for _, value in points if value is not None]
            bars = axis.barh(at, values, 0.95 * wide, color=COLOURS[tool], label=NAMES[tool])
            axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.set_xlabel(f"{label} (less is better)")
        axis.margins(x=0.15)
    axes[0].set_yticks(range(len(cases)), [case.name for case in cases])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(tools), frameon=False)
    return figure


def _curves(cases: list[Case], known: Known) -> Figure:
    """Draw seconds per pair and loss, and peak memory, against each size that grows."""
    names = list(dict.fromkeys(case.axis for case in cases))
    figure = Figure(figsize=(4 * len(names), 6), layout="constrained")
    grid = figure.subplots(2, len(names), squeeze=False)
    for column, name in enumerate(names):
        points = [case for case in cases if case.axis == name]
        for row, (quantity, label) in enumerate((("seconds", "seconds per pair and loss"), ("peak_bytes", "peak GB"))):
            axis = grid[row][column]
            for tool in points[0].tools:
                result = [(getattr(c, name), middle(known, c, tool, quantity), c.pairs * c.losses) for c in points]
                line = [(x, y / (count if quantity == "seconds" else 1e9)) for x, y, count in result if y is not None]
                if line:
                    axis.plot(*zip(*line, strict=True), marker="o", color=COLOURS[tool], label=NAMES[tool])
            axis.set_xscale("log", base=2)
            axis.set_xticks([getattr(c, name) for c in points], [str(getattr(c, name)) for c in points])
            axis.minorticks_off()
            axis.set_ylim(0, 1.08 * max((float(max(line.get_ydata())) for line in axis.lines), default=1.0))
            axis.set_xlabel(AXES[name])
            axis.set_ylabel(label)
    grid[0][0].legend(frameon=False)
    return figure
