"""The numbers of a study's run, from its files: what `numbers.json` in its folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples.studies.along import along
from examples.studies.seeds import finite, seed_effects, steadiness
from prefzoo.errors import UserError
from prefzoo.evals.boards.judged_files import points_of
from prefzoo.evals.boards.multi_seed import spread
from prefzoo.evals.boards.run_files import RunFiles, read_run
from prefzoo.evals.boards.selection import Entry, select
from prefzoo.evals.boards.standings import primary
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.equivalence import equality
from prefzoo.evals.stats.inference import detectable_by, seeded_difference, seeded_mean
from prefzoo.evals.stats.intervals import Values
from prefzoo.evals.stats.planning import prompts_for, typical_spread
from prefzoo.runtime.measuring_time import measuring_costs
from prefzoo.runtime.run_folders import read_result

ALPHA, POINTS, HOUR = 0.05, 100, 3600
START = "dpo"  # what differences are taken from
MORE_SEEDS = (3, 5, 10)  # that the number of prompts is worked out for
MOST_SEEDS = 100
ALONG = ("preference_accuracy", "preference_margin", "chosen_displacement", "kl", "words", "finished")
Numbers = dict[str, Any]


def numbers_of(folder: Path) -> Numbers:
    """Return the numbers of a finished run: of each variant, of its difference from dpo, and what the run can see.

    Args:
        folder: the run's.

    Raises:
        UserError: it is no run's, or nothing that ranks was measured yet.
    """
    run, entries = read_run(folder), [e for e in select([folder]) if not e.is_base]
    metric = primary(entries)
    if not metric or any(metric not in e.rows for e in entries) or run.unfinished:
        missing = ", ".join(run.unfinished) or "what ranks"
        raise UserError(f"{folder}: {missing} is not measured yet; the same prefzoo run goes on")
    values = stacked(run, entries, metric)
    share = entries[0].metrics[metric].percent
    scale = POINTS if share else 1
    numbers: Numbers = {
        "metric": metric, "unit": "points" if share else entries[0].metrics[metric].unit,
        "prompts": next(iter(values.values())).shape[1], "seeds": len(next(iter(values.values()))),
        "variants": _variants(run, entries, values, metric, scale),
        "differences": _differences(values, points_of(run), scale) if START in values else [],
        "margin": points_of(run), "varies": seed_effects(values, entries, metric, scale),
        "sees": _sees(values, scale, points_of(run)), "cost": cost_of(folder),
        "recipe": {"steps": _steps(run), "pairs": _pairs(run)}, "verdict": str(run.verdict.get("decision", "")),
    }  # fmt: skip
    numbers["varies"] |= steadiness(numbers["variants"])
    for outcome in ("different", "equal", "undecided"):
        named = [str(row["variant"]) for row in numbers["differences"] if row["outcome"] == outcome]
        numbers[outcome] = ", ".join(named) or "none"
    numbers |= _tuning(folder)
    if not run.frontier.empty:
        numbers |= along(run, numbers["variants"])
    return numbers


def stacked(run: RunFiles, entries: Sequence[Entry], metric: str) -> dict[str, Values]:
    """Return (seeds, n) rows of a metric by the recipe's variant."""
    rows: dict[str, list[Values]] = {}
    for e in entries:
        rows.setdefault(run.finals.get(e.files.name, e.files.name), []).append(e.rows[metric])
    return {name: np.stack(several) for name, several in rows.items()}


def cost_of(folder: Path) -> Numbers:
    """Return what all trainings in a run's folder took, those of a search among them, and measuring; in hours."""
    results = {path.parent: read_result(path.parent) for path in sorted(folder.glob("*/result.json"))}
    trained = sum(r.costs.get("seconds", 0.0) for r in results.values() if r is not None)
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    measured = sum(v for f in folders for name, v in measuring_costs(f).items() if name.startswith("measuring "))
    return {"trainings": len(results), "training_hours": trained / HOUR, "measuring_hours": measured / HOUR}


def _tuning(folder: Path) -> Numbers:
    """Return what was chosen for every variant, and by how many validation pairs; empty where nothing was tuned."""
    file = folder / "sweep.json"
    sweep = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not sweep.get("validation", {}).get("pairs"):
        return {}
    values = {f"{t['variant']} {t['name'].rpartition('-s')[0]}": t["values"] for t in sweep["trials"]}
    rows = [
        {
            "variant": variant, "settings": sweep["settings"][variant],
            "chosen": ", ".join(f"{_title(k)} {v:g}" for k, v in values[f"{variant} {setting}"].items()),
        }
        for variant, setting in sweep["chosen"].items()
    ]  # fmt: skip
    return {
        "settings": max(sweep["settings"].values()), "validation_pairs": sweep["validation"]["pairs"], "chosen": rows,
    }  # fmt: skip


def _title(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ")


def _variants(
    run: RunFiles, entries: Sequence[Entry], values: Mapping[str, Values], metric: str, scale: float
) -> list[Numbers]:
    models = {e.files.name: e.files.measured for e in entries} | {
        name: v.measured for name, v in run.variants.items() if name == "base"
    }
    known = {name: one for name, one in models.items() if one is not None}
    rows = []
    for variant, own in values.items():
        names = [e.files.name for e in entries if run.finals.get(e.files.name, e.files.name) == variant]
        mean = seeded_mean(own) if np.ptp(own) > 0 else intervals.mean(own[0])
        varies = spread(known, names, metric)
        row: Numbers = {
            "variant": variant, "value": scale * mean.value, "low": scale * mean.low, "high": scale * mean.high,
            "spread_over_seeds": finite(scale * varies.seeds), "error_over_prompts": scale * varies.prompts,
        }  # fmt: skip
        for other in ALONG:
            means = [e.value(other) for e in entries if e.files.name in names]
            row[other] = finite(float(np.mean(means)))
        rows.append(row)
    return sorted(rows, key=lambda row: -row["value"])


def _differences(values: Mapping[str, Values], margin: float | None, scale: float) -> list[Numbers]:
    """Return every variant less dpo, best first; p after Holm."""
    others = [name for name in values if name != START]
    gaps = [seeded_difference(values[name], values[START]) for name in others]
    ps = intervals.holm([gap.p for gap in gaps])
    same = [equality(values[name], values[START], (margin or 0) / POINTS) for name in others] if margin else []
    equal = intervals.holm([one.p for one in same]) if same else [None] * len(others)
    rows = [
        {
            "variant": name, "difference": scale * gap.value, "low": scale * gap.low, "high": scale * gap.high,
            "p_holm": p, "p_equal": q,
            "outcome": "equal" if q is not None and q <= ALPHA else "different" if p <= ALPHA else "undecided",
        }
        for name, gap, p, q in zip(others, gaps, ps, equal, strict=True)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -float(str(row["difference"])))


def _sees(values: Mapping[str, Values], scale: float, margin: float | None) -> Numbers:
    """Return the smallest difference from dpo that this run detects in four of five repetitions, alone and after Holm.

    `seeds_for_margin`: how many seeds, with these prompts, would detect the margin alone; None beyond `MOST_SEEDS`.
    """
    parts = typical_spread(values)
    if parts is None:
        return {}
    first = next(iter(values.values()))
    seeds, prompts, tests = len(first), first.shape[1], max(1, len(values) - 1)
    stderr, freedom = parts.stderr(prompts, seeds), parts.freedom(prompts, seeds)
    one, all_ = (scale * detectable_by(stderr, freedom, n) for n in (1, tests))
    enough = (
        s for s in range(seeds, MOST_SEEDS + 1)
        if margin and scale * detectable_by(parts.stderr(prompts, s), parts.freedom(prompts, s), 1) <= margin
    )  # fmt: skip
    needed = [{"seeds": s, "prompts": prompts_for(parts, s, 0.02, tests)} for s in MORE_SEEDS]
    return {
        "alone": one, "after_holm": all_, "for_two_points": needed if scale == POINTS else [],
        "seeds_for_margin": next(enough, None),
    }  # fmt: skip


def _steps(run: RunFiles) -> int:
    return max((len(v.steps) for v in run.variants.values()), default=0)


def _pairs(run: RunFiles) -> int:
    """Return how many different pairs each variant was trained on."""
    batch = max((int(v.result.train["batch"]) for v in run.variants.values() if v.result is not None), default=0)
    return min(int(run.audits.get("train", {}).get("kept", 0)), _steps(run) * batch)
