"""What a run measured along its trainings: where each was best, and how quality and implicit reward went on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from prefzoo.evals.boards.run_files import RunFiles
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import detectable_by
from prefzoo.evals.stats.intervals import Values
from prefzoo.runtime.run_folders import BASE

ALPHA, POINTS = 0.05, 100
STEPS = 5  # whose training margins are averaged: those of one step are of few pairs
Numbers = dict[str, Any]


def along(run: RunFiles, variants: Sequence[Numbers]) -> Numbers:
    """Return the numbers of the points of `evals.frontier`.

    Args:
        run: a run's files.
        variants: a row for each trained variant, with its `value`.

    Returns:
        `base`: the reward of the untrained model. `frontier`: every point. `falls`: of each variant its best point and
        its last. `stretches`: of each loss, averaged over its variants, the change of the reward from each point to the
        next. `changes`: of each variant the change over the last stretch. `pairs`: the differences between losses over
        it. `fell`, `rose`, `level`: the losses whose reward fell, rose, or did neither for certain over the last
        stretch. `climbed`: those whose training margin rose over it. `visible`: the smallest change over it that is
        detected in four of five repetitions, for the loss whose changes vary most. `spans`: of each loss the variants
        of the highest and the lowest value, and their difference; `between`: how far the highest values of the losses
        lie apart. Rewards are in points.
    """
    trained = [name for name in run.variants if name != BASE]
    start = _rewards(run.folder / BASE)
    rewards = {name: [*start, *_rewards(run.folder / name)] for name in trained}
    steps = [0, *_steps(run.folder / trained[0])]
    margins = {name: [_margin(run, name, step) for step in steps] for name in trained}
    losses: dict[str, list[str]] = {}
    for name in trained:
        losses.setdefault(_loss(run, name), []).append(name)
    pooled = {loss: _mean([rewards[name] for name in names]) for loss, names in losses.items()}
    pooled_margins = {loss: _mean([margins[name] for name in names]) for loss, names in losses.items()}
    stretches = _changes([
        _Stretch(loss, steps[i], steps[i + 1], pooled[loss][i], pooled[loss][i + 1], *pooled_margins[loss][i : i + 2])
        for loss in losses for i in range(len(steps) - 1)
    ])  # fmt: skip
    changes = _changes([_Stretch(n, *steps[-2:], *rewards[n][-2:], *margins[n][-2:]) for n in trained])
    numbers: Numbers = {
        "base": POINTS * float(start[0].mean()), "frontier": _points(run), "falls": _falls(run),
        "stretches": stretches, "changes": sorted(changes, key=lambda row: -float(row["change"])),
        "pairs": _pairs({loss: points[-1] - points[-2] for loss, points in pooled.items()}),
        "spans": [_span(loss, [row for row in variants if row["variant"] in names]) for loss, names in losses.items()],
    }  # fmt: skip
    last = [row for row in stretches if row["to"] == steps[-1]]
    for outcome in ("fell", "rose", "level"):
        numbers[outcome] = ", ".join(row["variant"] for row in last if row["outcome"] == outcome) or "none"
    best = [row["highest_value"] for row in numbers["spans"]]
    numbers["between"] = max(best) - min(best)
    numbers["visible"] = max(_visible(points[-1] - points[-2], len(losses)) for points in pooled.values())
    climbed = [row["variant"] for row in last if row["margin_after"] > row["margin_before"]]
    return numbers | {"climbed": ", ".join(climbed) or "none"}


@dataclass(frozen=True)
class _Stretch:
    """A stretch of training, of a variant or a loss.

    Attributes:
        name: of which.
        start, end: its steps.
        before, after: (n,) rewards of the same prompts at both.
        margin_before, margin_after: training margins at both.
    """

    name: str
    start: int
    end: int
    before: Values
    after: Values
    margin_before: float
    margin_after: float


def _loss(run: RunFiles, name: str) -> str:
    return str(run.recipe["variants"][name].get("loss") or name)


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "frontier").glob("step-*.json"))


def _steps(folder: Path) -> list[int]:
    return [int(path.stem.removeprefix("step-")) for path in _files(folder)]


def _rewards(folder: Path) -> list[Values]:
    """Return the (n,) rewards of the prompts at every point of a training, in the order of its steps."""
    return [np.array(json.loads(f.read_text(encoding="utf-8"))["reward"], dtype=float) for f in _files(folder)]


def _mean(several: Sequence[Any]) -> list[Any]:
    return list(np.mean(np.array(several), axis=0))


def _margin(run: RunFiles, name: str, step: int) -> float:
    """Return the training margin, in nats, over the steps before this one; of the first step for step 0."""
    values = run.variants[name].steps["rewards/margins"]
    return float(values.iloc[max(0, step - STEPS) : max(1, step)].mean())


def _changes(stretches: Sequence[_Stretch]) -> list[Numbers]:
    """Return the change of the reward over each stretch, paired by prompt; p after Holm."""
    gaps = [intervals.paired_difference(one.after, one.before) for one in stretches]
    ps = intervals.holm([gap.p for gap in gaps])
    return [
        {
            "variant": one.name, "from": one.start, "to": one.end, "before": POINTS * float(one.before.mean()),
            "after": POINTS * float(one.after.mean()), "change": POINTS * gap.value, "low": POINTS * gap.low,
            "high": POINTS * gap.high, "p_holm": p, "margin_before": float(one.margin_before),
            "margin_after": float(one.margin_after), "outcome": _outcome(gap.value, p),
        }
        for one, gap, p in zip(stretches, gaps, ps, strict=True)
    ]  # fmt: skip


def _visible(changes: Values, tests: int) -> float:
    n = len(changes)
    return POINTS * detectable_by(float(changes.std(ddof=1)) / n**0.5, n - 1, tests)


def _outcome(change: float, p: float) -> str:
    return "level" if p > ALPHA else "rose" if change > 0 else "fell"


def _pairs(changes: Mapping[str, Values]) -> list[Numbers]:
    """Return the change of one loss less that of another, for all pairs; p after Holm.

    Args:
        changes: by loss, the (n,) changes of the same prompts.
    """
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


def _span(loss: str, rows: Sequence[Numbers]) -> Numbers:
    highest, lowest = (pick(rows, key=lambda row: float(row["value"])) for pick in (max, min))
    return {
        "loss": loss, "highest": highest["variant"], "highest_value": highest["value"], "lowest": lowest["variant"],
        "lowest_value": lowest["value"], "span": highest["value"] - lowest["value"],
    }  # fmt: skip


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
