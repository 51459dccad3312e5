"""What a run measured along its trainings: where each was best, and how quality and implicit reward went on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from prefzoo.evals.boards.run_files import RunFiles
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Values
from prefzoo.runtime.run_folders import BASE

ALPHA, POINTS = 0.05, 100
STEPS = 5  # whose training margins are averaged: those of one step are of few pairs
Numbers = dict[str, Any]


def along(run: RunFiles) -> Numbers:
    """Return the numbers of the points of `evals.frontier`.

    Returns:
        `base`: the reward of the untrained model. `frontier`: every point. `falls`: of each variant its best point and
        its last. `changes`: of each variant the reward at its last point less that at its first. `losses`: the same,
        averaged over the variants of a loss. `pairs`: the differences between losses. `fell`, `rose`, `level`: the
        losses whose change differs from zero downwards, upwards, or not, after Holm. `climbed`: those whose training
        margin is larger at the last point. Rewards are in points.
    """
    rewards = {name: _rewards(run.folder / name) for name in run.variants if name != BASE}
    losses: dict[str, list[str]] = {}
    for name in rewards:
        losses.setdefault(_loss(run, name), []).append(name)
    changed = {name: (points[0], points[-1]) for name, points in rewards.items()}
    pooled = {
        loss: tuple(np.mean([changed[name][i] for name in names], axis=0) for i in (0, 1))
        for loss, names in losses.items()
    }
    margins = {name: _margins(run, name) for name in rewards}
    rows = _changes(changed, margins)
    of_losses = _changes(pooled, {
        loss: tuple(np.mean([margins[name] for name in names], axis=0)) for loss, names in losses.items()
    })  # fmt: skip
    numbers: Numbers = {
        "base": POINTS * float(run.frontier.loc[run.frontier.step == 0, "reward"].iloc[0]),
        "frontier": _points(run), "falls": _falls(run), "changes": rows, "losses": of_losses, "pairs": _pairs(pooled),
    }  # fmt: skip
    for outcome in ("fell", "rose", "level"):
        numbers[outcome] = ", ".join(row["variant"] for row in of_losses if row["outcome"] == outcome) or "none"
    climbed = [row["variant"] for row in of_losses if row["margin_at_last"] > row["margin_at_first"]]
    return numbers | {"climbed": ", ".join(climbed) or "none"}


def _loss(run: RunFiles, name: str) -> str:
    return str(run.recipe["variants"][name].get("loss") or name)


def _rewards(folder: Path) -> list[Values]:
    """Return the reward of each prompt at every point of a training, in the order of its steps."""
    files = sorted((folder / "frontier").glob("step-*.json"))
    return [np.array(json.loads(path.read_text(encoding="utf-8"))["reward"], dtype=float) for path in files]


def _margins(run: RunFiles, name: str) -> tuple[float, float]:
    """Return the training margins, in nats, before the first point and before the last."""
    points = run.frontier[(run.frontier.variant == name) & (run.frontier.step > 0)].sort_values("step")
    first, last = (_margin(run, name, int(points.step.iloc[i])) for i in (0, -1))
    return first, last


def _margin(run: RunFiles, name: str, step: int) -> float:
    values = run.variants[name].steps["rewards/margins"]
    return float(values.iloc[max(0, step - STEPS) : max(1, step)].mean())


def _changes(rewards: Mapping[str, Any], margins: Mapping[str, tuple[float, float]]) -> list[Numbers]:
    """Return the change from the first point to the last of each, least fallen first; p after Holm.

    Args:
        rewards: by name, the (n,) rewards of the same prompts at the first point and at the last.
        margins: by name, the implicit rewards' margins at both.
    """
    gaps = {name: intervals.paired_difference(last, first) for name, (first, last) in rewards.items()}
    ps = intervals.holm([gap.p for gap in gaps.values()])
    rows = [
        {
            "variant": name, "first": POINTS * float(rewards[name][0].mean()),
            "last": POINTS * float(rewards[name][1].mean()), "change": POINTS * gap.value, "low": POINTS * gap.low,
            "high": POINTS * gap.high, "p_holm": p, "margin_at_first": float(margins[name][0]),
            "margin_at_last": float(margins[name][1]), "outcome": _outcome(gap.value, p),
        }
        for (name, gap), p in zip(gaps.items(), ps, strict=True)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -float(str(row["change"])))


def _outcome(change: float, p: float) -> str:
    return "level" if p > ALPHA else "rose" if change > 0 else "fell"


def _pairs(rewards: Mapping[str, Any]) -> list[Numbers]:
    """Return the change of one loss less that of another, for all pairs; p after Holm."""
    changes = {loss: last - first for loss, (first, last) in rewards.items()}
    named = list(combinations(changes, 2))
    gaps = [intervals.paired_difference(changes[a], changes[b]) for a, b in named]
    ps = intervals.holm([gap.p for gap in gaps])
    return [
        {
            "losses": f"{a} less {b}", "difference": POINTS * gap.value, "low": POINTS * gap.low,
            "high": POINTS * gap.high, "p_holm": p, "outcome": "different" if p <= ALPHA else "undecided",
        }
        for (a, b), gap, p in zip(named, gaps, ps, strict=True)
    ]  # fmt: skip


def _falls(run: RunFiles) -> list[Numbers]:
    """Return of each variant its best point, its last one, and the training margins at both."""
    rows = []
    for variant, points in run.frontier.groupby("variant", sort=False):
        if variant == BASE:
            continue
        best, last = points.loc[points.reward.idxmax()], points.iloc[-1]
        margins = [_margin(run, str(variant), int(p.step)) for p in (best, last)]
        rows.append({
            "variant": str(variant), "best": POINTS * best.reward, "best_step": int(best.step), "best_kl": best.kl,
            "last": POINTS * last.reward, "last_low": POINTS * last.reward_low, "last_high": POINTS * last.reward_high,
            "last_kl": last.kl, "fall": POINTS * (best.reward - last.reward), "margin_at_best": margins[0],
            "margin_at_last": margins[1],
        })  # fmt: skip
    return sorted(rows, key=lambda row: float(str(row["fall"])))


def _points(run: RunFiles) -> list[Numbers]:
    """Return every measured point of every variant, along the training."""
    return [
        {
            "variant": str(r["variant"]), "loss": _loss(run, str(r["variant"])), "step": int(r["step"]), "kl": r["kl"],
            "reward": POINTS * r["reward"], "low": POINTS * r["reward_low"], "high": POINTS * r["reward_high"],
        }
        for r in run.frontier.sort_values(["variant", "step"]).to_dict("records") if r["variant"] != BASE
    ]  # fmt: skip
