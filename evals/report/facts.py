"""Collect the facts about a run: model, data, time, cost, hardware and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from prefzoo.evals.boards.costs import with_price
from prefzoo.evals.boards.run_files import RunFiles, price_of
from prefzoo.recipe.data_paths import shown
from prefzoo.runtime.durations import duration
from prefzoo.runtime.measuring_time import measuring_costs
from prefzoo.runtime.run_folders import RunResult
from prefzoo.runtime.wall_time import read_wall_time

DATE = len("2026-01-31 12:00")  # characters shown of an ISO 8601 time


def facts(run: RunFiles, measured_on: str, judge: str) -> dict[str, str]:
    """Collect the facts at the top of the page.

    Args:
        run: the run's files.
        measured_on: the number of prompts and pairs, in words.
        judge: the judge's name; empty if there was none.

    Returns:
        Each fact as text, by its heading; unknown facts are left out.
    """
    results = [v.result for v in run.variants.values() if v.result is not None]
    about = {
        "Model": str(run.recipe["model"]), "Training data": shown(run.recipe["data"]["train"]),
        "Measured on": measured_on, "Judge": judge or "none",
    }  # fmt: skip
    several = {
        "Finished": _finished(results), "Whole run": _whole(run), "Training time": _time(results),
        "Energy of training": _energy(results), "Cost of training": _price(results, price_of(run)),
        "Measuring time": _measuring(run),
        "Steps": _steps(results),
        "Batch": _values([r.train.get("batch") for r in results], " pairs"),
        "Seeds" if len({r.seed for r in results}) > 1 else "Seed": _values([r.seed for r in results]),
        "Hardware": _values([hardware(r.environment) for r in results], joined="; "),
    }  # fmt: skip
    return about | {name: text for name, text in several.items() if text}


def hardware(environment: Mapping[str, Any]) -> str:
    """Return the hardware of a training, like `2 × NVIDIA H100` or `AMD EPYC, 2 cores`."""
    own, processes = environment.get("hardware") or {}, environment.get("processes") or 1
    cores = f", {own['cores']} cores" if own.get("cores") else ""
    device = own.get("gpu") or (f"{own['processor']}{cores}" if own.get("processor") else "")
    return f"{processes} × {device}" if device and processes > 1 else str(device)


def environments(run: RunFiles) -> list[dict[str, Any]]:
    """Group the trainings by environment (hardware, commit and versions).

    Returns:
        For each environment `variants`, the names of its trainings (empty if there is only one environment), and
        `rows`, its facts by their heading. The times at which trainings finished are ignored.
    """
    kinds: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for name, variant in run.variants.items():
        if variant.result is not None:
            same = {k: v for k, v in variant.result.environment.items() if k != "finished"}
            kinds.setdefault(yaml.safe_dump(same), ([], same))[0].append(name)
    return [
        {"variants": names if len(kinds) > 1 else [], "rows": _rows(environment)}
        for names, environment in kinds.values()
    ]


def _rows(environment: Mapping[str, Any]) -> dict[str, str]:
    rows = {"Hardware": hardware(environment) or "unknown", "Processes": str(environment.get("processes") or 1)}
    rows |= {"Platform": str((environment.get("hardware") or {}).get("platform") or "unknown")}
    rows |= {"Commit": str(environment.get("commit") or "unknown")}
    return rows | {k: str(v) for k, v in (environment.get("versions") or {}).items()}


def _finished(results: Sequence[RunResult]) -> str:
    last = max((str(r.environment.get("finished") or "") for r in results), default="")
    return f"{last[:DATE].replace('T', ' ')} UTC" if last else ""


def _time(results: Sequence[RunResult]) -> str:
    seconds = [r.costs["seconds"] for r in results if "seconds" in r.costs]
    if not seconds:
        return ""
    return duration(sum(seconds)) + (f" for {len(seconds)} trainings" if len(seconds) > 1 else "")


def _energy(results: Sequence[RunResult]) -> str:
    joules = [r.costs["joules"] for r in results if "joules" in r.costs]
    return f"{sum(joules):,.0f} J" if joules else ""


def _price(results: Sequence[RunResult], per_hour: float | None) -> str:
    dollars = [cost["dollars"] for r in results if "dollars" in (cost := with_price(r.costs, per_hour))]
    return f"${sum(dollars):,.3f} at ${per_hour:g} an hour" if dollars else ""


def _whole(run: RunFiles) -> str:
    seconds = read_wall_time(run.folder)
    return "" if seconds is None else duration(seconds)


def _measuring(run: RunFiles) -> str:
    costs = [measuring_costs(variant.folder) for variant in run.variants.values()]
    seconds = [v for cost in costs for k, v in cost.items() if k.startswith("measuring ")]
    models = sum(bool(cost) for cost in costs)
    return f"{duration(sum(seconds))} for {models} model{'s' if models > 1 else ''}" if seconds else ""


def _steps(results: Sequence[RunResult]) -> str:
    return _values([int(r.metrics["step"]) for r in results if "step" in r.metrics])


def _values(values: Sequence[Any], unit: str = "", joined: str = ", ") -> str:
    """Join the distinct values into one text, with a unit; empty if there are none."""
    known = list(dict.fromkeys(str(v) for v in values if v not in (None, "")))
    return joined.join(known) + unit if known else ""
