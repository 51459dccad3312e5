"""Chart the reward-KL frontier of a run, and explain why its rewards differ from the leaderboard's."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import isfinite

import pandas as pd

from prefzoo.evals.boards.run_files import RunFiles
from prefzoo.evals.metrics.registry import Metrics
from prefzoo.evals.report.canvas import Chart
from prefzoo.evals.report.charts import ScatterPoint, scatter
from prefzoo.evals.report.numbers import amount
from prefzoo.runtime.run_folders import BASE

WIDTH = 0.4  # share of the space between two checkpoints over which the variants of one are spread
TWO = 2  # checkpoints, start and end, that are too few for a chart over steps


def frontier(run: RunFiles, series: Mapping[str, int]) -> Chart | None:
    """Chart the reward against the KL from the reference, with a line through each variant's checkpoints.

    Args:
        run: the run's files.
        series: the number of each variant's look (see `style.look`).

    Returns:
        The chart; None if the run has no frontier.
    """
    table = run.frontier
    if table.empty:
        return None
    metric = Metrics()[str(table["metric"].iloc[0])]
    points = [
        ScatterPoint(
            str(r["variant"]), float(r["kl"]), float(r["reward"]), float(r["reward_low"]), float(r["reward_high"]),
            series.get(str(r["variant"])),
        )
        for r in table.sort_values(["variant", "step"]).to_dict("records")
    ]  # fmt: skip
    return scatter(
        points, "Reward against KL", "KL from the reference, nats", metric.title, percent=metric.percent, joined=True
    )


def along(run: RunFiles, series: Mapping[str, int]) -> Chart | None:
    """Chart the reward against the training step.

    Args:
        run: the run's files.
        series: the number of each variant's look (see `style.look`).

    Returns:
        The chart; None if no variant has a checkpoint between its start and its end.
    """
    table = run.frontier
    if table.empty or table.groupby("variant").step.nunique().max() <= TWO:
        return None
    metric, aside = Metrics()[str(table["metric"].iloc[0])], _aside(table)
    points = [
        ScatterPoint(
            str(r["variant"]), float(r["step"]), float(r["reward"]), float(r["reward_low"]), float(r["reward_high"]),
            series.get(str(r["variant"])), aside=aside[str(r["variant"])] if r["step"] else 0.0,
        )
        for r in table.sort_values(["variant", "step"]).to_dict("records")
    ]  # fmt: skip
    title = f"{metric.title[:1].upper()}{metric.title[1:]} along the training"
    return scatter(points, title, "optimiser step", metric.title, percent=metric.percent, joined=True)


def _aside(table: pd.DataFrame) -> dict[str, float]:
    """Return the distance, in steps, between each variant's points and their step, so that no point covers another."""
    names, steps = list(dict.fromkeys(map(str, table["variant"]))), sorted(set(table["step"]))
    room = WIDTH * min(later - step for step, later in pairwise(steps))
    return {name: room * ((i + 0.5) / len(names) - 0.5) for i, name in enumerate(names)}


def explanation(run: RunFiles, long: pd.DataFrame) -> str:
    """Explain why the rewards in the chart differ from the leaderboard's; empty if they are the same numbers.

    Args:
        run: the run's files.
        long: the run's long table.
    """
    table = run.frontier
    if table.empty or str(table["metric"].iloc[0]) not in ("score", "win_rate"):
        return ""
    evals, metric = run.recipe.get("evals") or {}, Metrics()[str(table["metric"].iloc[0])]
    few = f"the first {evals['kl']}" if evals.get("kl") else "a part"
    text = (
        f"KL is measured on answers that are sampled from the model. So the {metric.title} in this chart is that of "
        f"sampled answers to {few} of the prompts; the leaderboard shows that of greedy answers to all prompts."
    )
    start = table[table.step == 0].reward
    own = long[(long.variant == BASE) & (long.metric == metric.name)].value if not long.empty else start[:0]
    if metric.name == "score" and len(start) and len(own) and isfinite(start.iloc[0]) and isfinite(own.iloc[0]):
        here, there = amount(metric, float(start.iloc[0])), amount(metric, float(own.iloc[0]))
        text += f" The base has {here} in this chart and {there} on the leaderboard."
    return text
