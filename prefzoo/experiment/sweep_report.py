"""Report how settings were chosen: the leaderboard's section, and `sweep.json` with the same for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from prefzoo.evals.boards.multi_seed import spread
from prefzoo.evals.metrics.measure import Measured
from prefzoo.experiment import search
from prefzoo.experiment.best_trials import Choice, failures
from prefzoo.experiment.context import Experiment

HEAD = (
    "| variant | settings tried | chosen | accuracy on validation | standard deviation over seeds (n) | "
    "standard error over prompts |\n|---|---|---|---|---|---|"
)

NO_GRID = "sweep: no variant has a grid, so there is nothing to choose and the section `sweep` has no effect"


def plan(experiment: Experiment) -> str:
    """Return in one line the number of trainings, and the pairs that they are chosen by."""
    trials = list(experiment.trials.values())
    counts, seeds = search.budgets(trials), experiment.recipe.seeds or [experiment.recipe.seed]
    each = f"{next(iter(counts.values()))} settings each" if len(set(counts.values())) == 1 else _counts(counts)
    pairs = len(experiment.validation)
    chosen = f", chosen by {pairs} validation pairs held out of training" if pairs else ""
    return f"sweep: {len(counts)} variants, {each}, {_seeds(len(seeds))}: {len(trials)} trials{chosen}"


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def table(experiment: Experiment, choice: Choice, numbers: Mapping[str, Measured], primary: str) -> str:
    """Describe how settings were chosen.

    Args:
        experiment: what was tuned.
        choice: what was chosen.
        numbers: of the final models, by name, and of the base.
        primary: the metric that ranks.

    Returns:
        The leaderboard's section on tuning, in Markdown.
    """
    trials, failed = list(experiment.trials.values()), failures(experiment)
    counts = search.budgets(trials)
    lines = ["## Tuning", "", _statement(experiment, counts), "", HEAD]
    for arm, count in counts.items():
        names = [t.name for t in choice.finals if t.arm == arm]
        if not names:
            lines.append(f"| {arm} | {count} | none: every setting failed | - | - | - |")
            continue
        values = next(t.values for t in choice.finals if t.arm == arm)
        of_setting = [t.name for t in trials if t.setting == choice.settings[arm] and t.name in choice.scores]
        accuracy = float(np.mean([choice.scores[n].accuracy for n in of_setting])) if of_setting else math.nan
        varies = spread(numbers, names, primary)
        lines.append(
            f"| {arm} | {count} | {_setting(values)} | {_percent(accuracy)} | "
            f"{_percent(varies.seeds)} ({len(names)}) | {_percent(varies.prompts)} |"
        )
    lines += ["", *(f"- {name} failed: {failure.reason}" for name, failure in failed.items())]
    if choice.stopped:
        lines.append(
            f"- {len(choice.stopped)} of {len(trials)} trials were stopped early, by their variant's own trials."
        )
    return "\n".join(lines).rstrip() + "\n"


def record(experiment: Experiment, choice: Choice) -> dict[str, Any]:
    """Return the content of `sweep.json`: every trial with its score, and the choices."""
    failed = failures(experiment)
    trials = [
        {
            "name": t.name, "variant": t.arm, "values": t.values, "seed": t.seed,
            "validation": asdict(choice.scores[t.name]) if t.name in choice.scores else None,
            "stopped_after": choice.stopped.get(t.name),
            "failed": failed[t.name].reason if t.name in failed else None,
        }
        for t in experiment.trials.values()
    ]  # fmt: skip
    rows = experiment.validation_rows if experiment.validation else ""
    sources = {v.name: a.source for v in experiment.recipe.variants.values() for a in v.axes if a.source}
    return {
        "metric": "preference_accuracy", "settings": search.budgets(list(experiment.trials.values())),
        "validation": {"pairs": len(experiment.validation), "rows": rows}, "chosen": choice.settings,
        "finals": {t.name: t.arm for t in choice.finals}, "sources": sources, "trials": trials,
    }  # fmt: skip


def _statement(experiment: Experiment, counts: Mapping[str, int]) -> str:
    seeds = experiment.recipe.seeds or [experiment.recipe.seed]
    if not experiment.validation:
        return f"Nothing was tuned; every variant was trained with {_seeds(len(seeds))}."
    equal = len(set(counts.values())) == 1
    budget = (
        f"Every variant had the same budget, {next(iter(counts.values()))} settings"
        if equal
        else f"Beware: {_counts(counts)}, which favours variants with more"
    )
    searched = len(seeds[: search.settings_of(experiment.recipe).search_seeds])
    return (
        f"{budget}, each trained with {searched} of {_seeds(len(seeds))}. The setting was chosen by the accuracy on "
        f"{len(experiment.validation)} validation pairs, on which nothing was trained; the table above is of the test "
        "split alone, which no choice used."
    )


def _counts(counts: Mapping[str, int]) -> str:
    return "UNEQUAL settings (" + ", ".join(f"{arm} {n}" for arm, n in counts.items()) + ")"


def _setting(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.removeprefix('train.')} {value}" for name, value in values.items()) or "as written"


def _percent(value: float) -> str:
    return "-" if not math.isfinite(value) else f"{100 * value:.1f}%"
