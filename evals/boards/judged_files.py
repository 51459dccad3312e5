"""Read the measurements of a run's models from disk, the judge's preferences included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from prefzoo.data.flips import FLIPPED
from prefzoo.evals.boards.cautions import Setting, cautions
from prefzoo.evals.boards.costs import run_cost, with_price
from prefzoo.evals.boards.leaderboard import Leaderboard, build
from prefzoo.evals.boards.multi_seed import over_seeds
from prefzoo.evals.boards.run_files import RunFiles, VariantFiles, price_of
from prefzoo.evals.judges.coverage import coverage_of
from prefzoo.evals.judges.rows import drawn_of, games_of, panel_of
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metrics
from prefzoo.runtime.measuring_time import measuring_costs
from prefzoo.runtime.run_folders import RunResult


def measured_of(variant: VariantFiles) -> Measured | None:
    """Return the measurements of a model, with the judge's preferences; None if there are none.

    The preferences come from `annotations.json`. If too many of them are missing, all are withheld, as in the run.
    """
    measured, rows = variant.measured, variant.annotations
    if measured is None or measured.preferences or not rows:
        return measured
    cover = coverage_of([r.get("missing") or "no reason given" for r in rows if r["preference"] is None], len(rows))
    preferences = [None if cover.withheld else r["preference"] for r in rows]
    graded = rows[0].get("verdicts") == "arena"
    games = games_of(preferences, [r["preference_by_order"] for r in rows]) if graded else []
    panel = panel_of([r.get("preference_by_judge") or {} for r in rows])
    drawn = drawn_of(rows, withheld=cover.withheld)
    measured = replace(measured, games=games, panel=panel, drawn=drawn, **variant.labels)
    judge, prompt = (str(rows[0].get(k) or "") for k in ("annotator", "prompt_hash"))
    return replace(
        measured, preferences=preferences, missing=cover.missing, judge=judge, prompt_hash=prompt,
        why_missing=cover.summary(),
    )  # fmt: skip


def all_measured(run: RunFiles) -> dict[str, Measured]:
    """Return the measurements of each model of a run, by its name; the base is one of them."""
    return {name: m for name, v in run.variants.items() if (m := measured_of(v)) is not None}


def rebuilt(run: RunFiles) -> Leaderboard:
    """Build the board of a run again from its measurements; the seeds of a variant are merged into one row."""
    costs = {name: costs_of(v, price_of(run)) for name, v in run.variants.items() if v.result is not None}
    models = all_measured(run)
    board = build(models, costs, points=points_of(run))
    if any(name != arm for name, arm in run.finals.items()):
        arms = dict.fromkeys(arm for name, arm in run.finals.items() if name in models)
        known = {arm: [n for n, a in run.finals.items() if a == arm and n in models] for arm in arms}
        board = over_seeds(board, models, known, run_cost(costs, run.finals, board.metrics[board.primary].row_name))
    return replace(board, failed=run.failed, cautions=cautions(models, setting_of(run)))


def points_of(run: RunFiles) -> float | None:
    """Return the margin of equality in a run's recipe, in percentage points; None if it asks for no such test."""
    points = (run.recipe.get("evals") or {}).get("equivalence")
    return None if points is None else float(points)


def costs_of(variant: VariantFiles, price: float | None) -> dict[str, float]:
    """Return the costs of training and measuring a variant; `price` is in dollars per hour, None without a price."""
    trained = variant.result.costs if variant.result is not None else {}
    return with_price(trained, price) | measuring_costs(variant.folder)


def setting_of(run: RunFiles) -> Setting:
    """Collect the settings and facts of a run that its cautions depend on."""
    results = {name: v.result for name, v in run.variants.items() if v.result is not None}
    sampled = run.recipe.get("rounds") is not None  # each round has pairs of its own
    seen = {} if sampled else {name: pairs_seen(result) for name, result in results.items()}
    evals = run.recipe.get("evals") or {}
    audit = run.audits.get("train", {})
    pairs, flipped = int(audit.get("kept", 0)), int(audit.get("counts", {}).get(FLIPPED, 0))
    held_out, prompts = bool(run.recipe["data"].get("eval")), bool(evals.get("prompts"))
    tokens = int(evals.get("max_new_tokens") or 0)
    return Setting(tokens, seen, pairs, held_out, prompts, run.lost, run.orphans, flipped)


def pairs_seen(result: RunResult) -> int:
    """Return the number of pairs that a training saw, repeats included."""
    return int(result.metrics.get("step", 0)) * int(result.train.get("batch") or 0)


def metrics_of(runs: Iterable[RunFiles]) -> Metrics:
    """Return the metrics of runs, their benchmarks included."""
    return Metrics.of(v.measured for run in runs for v in run.variants.values() if v.measured is not None)
