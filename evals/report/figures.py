"""Pictures of a run for papers: matplotlib's SVG, whose letters stay letters, and PNG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prefzoo.evals.boards.leaderboard import BASE
from prefzoo.evals.boards.run_files import RunFiles
from prefzoo.evals.report.benchmarks import rows_of, suites_of, unit_of
from prefzoo.evals.report.matches import round_robin_of
from prefzoo.evals.report.numbers import board_of, long_of, name_of

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
MARKERS, DASHES = "osD^vPX", ("-", "--", ":", "-.", (0, (5, 1)), (0, (8, 2)), (0, (1, 3)))
GREY = "#888888"
CURVES = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected", "grad_norm")
DPI = 200


def draw(run: RunFiles, folder: Path) -> list[Path]:
    """Every picture that the run has data for, as `NAME.svg` and `NAME.png`, and returns their paths."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "prefzoo", "font.size": 8, "axes.grid": True,
                         "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False})  # fmt: skip
    from matplotlib import pyplot as plt

    board = board_of(run)
    order = [n for n in (board.order if board is not None else run.variants) if n != BASE]
    long = long_of(run, board)
    if board is not None:
        long = long.assign(primary=long.metric == board.primary)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, make in PICTURES.items():
        figure = make(plt, run, long, order)
        if figure is None:
            continue
        for suffix in ("svg", "png"):
            written.append(folder / f"{name}.{suffix}")
            figure.savefig(written[-1], dpi=DPI, metadata={"Date": None} if suffix == "svg" else None)
        plt.close(figure)
    return written


def _style(i: int) -> dict[str, Any]:
    if i >= len(COLOURS):
        return {"color": GREY, "alpha": 0.5, "linewidth": 0.7}
    return {"color": COLOURS[i], "linestyle": DASHES[i]}


def _mark(i: int) -> dict[str, Any]:
    known = i < len(COLOURS)
    return {"color": COLOURS[i] if known else GREY, "marker": MARKERS[i] if known else ".", "linestyle": "none"}


def _ranking(plt: Any, run: RunFiles, long: pd.DataFrame, order: list[str]) -> Any:
    """What the board ranks by, with intervals."""
    if "primary" not in long:
        return None
    mine = long[long.primary & long.value.notna()].drop_duplicates("variant").set_index("variant")
    names = [n for n in order if n in mine.index]
    if not names:
        return None
    figure, axis = plt.subplots(figsize=(3.4, 0.6 + 0.22 * len(names)), layout="constrained")
    for i, name in enumerate(names):
        row = mine.loc[name]
        axis.plot([row.low, row.high], [i, i], color=_mark(i)["color"], linewidth=1.5, alpha=0.6)
        axis.plot(row.value, i, **_mark(i))
    axis.axvline(0.5, color=GREY, linestyle="--", linewidth=0.8)
    axis.set(yticks=range(len(names)), yticklabels=names, xlabel=name_of(str(mine.metric.iloc[0])))
    axis.invert_yaxis()
    return figure


def _length(plt: Any, run: RunFiles, long: pd.DataFrame, order: list[str]) -> Any:
    """Win rate against the mean length of answers."""
    wide = long.pivot_table(index="variant", columns="metric", values="value") if not long.empty else long
    if not {"words", "win_rate"} <= set(wide.columns):
        return None
    figure, axis = plt.subplots(figsize=(3.4, 2.4), layout="constrained")
    for i, name in enumerate(n for n in order if n in wide.index):
        row = wide.loc[name]
        axis.plot(row.words, row.win_rate, label=name, **_mark(i))
        if "win_rate_lc" in wide:
            axis.plot(row.words, row.win_rate_lc, fillstyle="none", **_mark(i))
    axis.set(xlabel="words per answer", ylabel="win rate (hollow: length-controlled)")
    _legend(axis, len(order))
    return figure


def _matrix(plt: Any, run: RunFiles, long: pd.DataFrame, order: list[str]) -> Any:
    """The round robin as a heat map."""
    found = round_robin_of(run)
    if found is None:
        return None
    names = found["variants"]
    wins = np.array([[np.nan if w is None else w for w in row] for row in found["wins"]])
    size = 1.2 + 0.42 * len(names)
    figure, axis = plt.subplots(figsize=(size, size * 0.85), layout="constrained")
    axis.imshow(wins, cmap="PuOr_r", vmin=0, vmax=1)
    axis.grid(visible=False)
    for (i, j), won in np.ndenumerate(wins):
        if np.isfinite(won):
            axis.text(j, i, f"{100 * won:.0f}", ha="center", va="center", fontsize=7)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_title("row beats column, %", fontsize=8)
    return figure


def _frontier(plt: Any, run: RunFiles, long: pd.DataFrame, order: list[str]) -> Any:
    """Reward against KL."""
    table = run.frontier
    if table.empty:
        return None
    figure, axis = plt.subplots(figsize=(3.4, 2.4), layout="constrained")
    for i, name in enumerate(n for n in order if n in set(table.variant)):
        mine = table[table.variant == name].sort_values("step")
        axis.plot(mine.kl, mine.reward, label=name, **{**_mark(i), "linestyle": _style(i).get("linestyle", "-")})
        axis.fill_between(mine.kl, mine.reward_low, mine.reward_high, color=_mark(i)["color"], alpha=0.12, linewidth=0)
    axis.set(xlabel="KL from the reference (nats)", ylabel=name_of(str(table.metric.iloc[0])))
    _legend(axis, len(order))
    return figure


def _benchmarks(plt: Any, run: RunFiles, long: pd.DataFrame, order: list[str]) -> Any:
    """Differences from the base, in points, with intervals; a panel per benchmark."""
    suites = suites_of(run)
    series = {n: i for i, n in enumerate(order)}
    panels = {s: rows for s in suites if (rows := rows_of(run, long, s, series))}
    if not panels:
        return None
    height = 0.6 + 0.22 * max(map(len, panels.values()))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(0.8 + 2.2 * len(panels), height), layout="constrained", squeeze=False
    )
    for axis, (suite, rows) in zip(axes.flat, panels.items(), strict=True):
        for y, r in enumerate(rows):
            look = _mark(r.series or 0)
            axis.plot([r.low, r.high], [y, y], color=look["color"], linewidth=1.5, alpha=0.6)
            axis.plot(r.value, y, **look)
        axis.axvline(0, color=GREY, linestyle="--", linewidth=0.8)
        axis.set(
            title=suite,
            yticks=range(len(rows)),
            yticklabels=[r.name for r in rows],
            xlabel=f"{unit_of(suite)} from the base",
        )
        axis.invert_yaxis()
    return figure


def _training(plt: Any, run: RunFiles, long: pd.DataFrame, order: list[str]) -> Any:
    """Training curves."""
    logged = [n for n in order if n in run.variants and not run.variants[n].steps.empty]
    columns = [c for c in CURVES if any(c in run.variants[n].steps for n in logged)]
    if not columns:
        return None
    figure, axes = plt.subplots(-(-len(columns) // 3), 3, figsize=(7, 3.6), layout="constrained", squeeze=False)
    for axis in axes.flat[len(columns) :]:
        axis.axis("off")
    for axis, column in zip(axes.flat, columns, strict=False):
        for i, name in enumerate(logged):
            steps = run.variants[name].steps
            if column in steps:
                axis.plot(steps["step"], steps[column], label=name, **_style(i))
        axis.set(title=column, xlabel="step")
        if column == "grad_norm":
            axis.set_yscale("log")
    _legend(axes.flat[0], len(logged))
    return figure


def _legend(axis: Any, n: int) -> None:
    if n <= len(COLOURS):
        axis.legend(frameon=False, fontsize=7)


Picture = Callable[[Any, RunFiles, pd.DataFrame, list[str]], Any]
PICTURES: dict[str, Picture] = {
    "ranking": _ranking,
    "win_rate_by_length": _length,
    "head_to_head": _matrix,
    "frontier": _frontier,
    "benchmarks": _benchmarks,
    "training": _training,
}
