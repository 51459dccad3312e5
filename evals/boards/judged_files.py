"""What was measured on the models of a run, judged preferences included, as it is on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from prefzoo.evals.boards.leaderboard import Leaderboard, build
from prefzoo.evals.boards.run_files import RunFiles, VariantFiles
from prefzoo.evals.judges.coverage import MOST_MISSING
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metrics


def measured_of(variant: VariantFiles) -> Measured | None:
    """Return what was measured on a model, with the judge's preferences; None if nothing was.

    The judge's preferences are in `annotations.json`; too many missing ones withhold all, as in the run itself.
    """
    measured, rows = variant.measured, variant.annotations
    if measured is None or measured.preferences or not rows:
        return measured
    missing = sum(r["preference"] is None for r in rows)
    withheld = missing > MOST_MISSING * len(rows)
    preferences = [None if withheld else r["preference"] for r in rows]
    judge, prompt = (str(rows[0].get(k) or "") for k in ("annotator", "prompt_hash"))
    return replace(measured, preferences=preferences, missing=missing, judge=judge, prompt_hash=prompt)


def all_measured(run: RunFiles) -> dict[str, Measured]:
    """Return what was measured on each model of a run, by name; the base under its own."""
    return {name: m for name, v in run.variants.items() if (m := measured_of(v)) is not None}


def rebuilt(run: RunFiles) -> Leaderboard:
    """Build the board of a run from what was measured, instead of reading it."""
    costs = {name: v.result.costs for name, v in run.variants.items() if v.result is not None}
    return build(all_measured(run), costs)


def metrics_of(runs: Iterable[RunFiles]) -> Metrics:
    """Return the metrics of runs, their benchmarks included."""
    return Metrics.of(v.measured for run in runs for v in run.variants.values() if v.measured is not None)
