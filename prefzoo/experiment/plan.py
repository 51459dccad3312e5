"""What a recipe would do: pairs, steps, tokens, memory, time and disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console

from prefzoo.data.mixtures import SourceCounts
from prefzoo.engine.precision import use_bf16
from prefzoo.experiment import search
from prefzoo.experiment.check import check_run, load_checked
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.data import unit
from prefzoo.experiment.estimate import estimate
from prefzoo.experiment.plan_types import Plan, RunEstimate, VariantPlan
from prefzoo.experiment.request import Options, Request
from prefzoo.experiment.rounds import lines_of
from prefzoo.experiment.search import Trial
from prefzoo.experiment.stages.trainings import plain_job
from prefzoo.experiment.standing import standing_of
from prefzoo.recipe.load import Recipe, Variant
from prefzoo.training.job import steps_of
from prefzoo.training.memory_estimate import live_models, memory_need
from prefzoo.training.profiles import profile_warnings


def plan_of(
    path: Path, overrides: Sequence[str], results: str = "results", console: Console | None = None,
    launch: Path | None = None, recipe: Recipe | None = None,
) -> Plan:  # fmt: skip
    """Check a recipe with all that it names, as a run does, and return what it would do. Nothing is trained.

    Args:
        path: the recipe's file.
        overrides: `a.b=value` on top of it.
        results: the folder that holds the runs' folders.
        console: where progress goes; nowhere if None.
        launch: an Accelerate profile that trainings would start under.
        recipe: what the file holds with the overrides; None to read it.

    Returns:
        What it would do, with what looks absurd and what would fail.

    Raises:
        UserError: the run would be refused.
    """
    request = Request(str(path), tuple(overrides), results)
    checked = check_run(request, load_checked(request, launch, recipe), console or Console(quiet=True))
    experiment = checked.experiment
    recipe, model, trials = experiment.recipe, experiment.base.model, list(experiment.trials.values())
    size, config = _size(model), model.config
    standing = standing_of(experiment, Options())
    estimated = estimate(experiment, checked.judge, standing)
    variants = {
        name: _plan_variant(experiment, variant, config, [t for t in trials if t.arm == name], estimated)
        for name, variant in recipe.variants.items()
    }
    audit = experiment.audits["train"]
    profile = profile_warnings(launch) if launch else []
    return Plan(
        recipe.name, recipe.model, size, len(experiment.pairs), unit(experiment.pairs), audit["schema"],
        dict(audit["counts"]), variants, sum(v.seconds * v.trials for v in variants.values()), len(trials),
        len(recipe.seeds or [recipe.seed]), _stops_early(recipe), search.is_sweep(recipe), estimated,
        (*checked.warnings, *profile), checked.failing, tuple(standing.lines()),
        tuple(SourceCounts(**one) for one in audit["sources"]), lines_of(experiment),
    )  # fmt: skip


def _plan_variant(
    experiment: Experiment, variant: Variant, model: Any, trials: Sequence[Trial], estimated: RunEstimate
) -> VariantPlan:
    train, bf16, examples = variant.train, use_bf16(variant.train), experiment.pairs
    steps = steps_of(train, len(examples))
    tokens = steps * train.batch * mean(example.total_tokens for example in examples)
    seconds = mean(estimated.trainings[trial.name] for trial in trials)
    others = [other.config for other in map(experiment.reference_of, trials) if other is not None]
    other = max(others, key=lambda config: config.hidden_size * config.num_hidden_layers, default=None)
    live = live_models(plain_job(experiment, trials[0]), model, other)
    memory = memory_need(model, examples, train, bf16=bf16, live=live, reference=other)
    grids = tuple(dict.fromkeys(axis.source for axis in variant.axes if axis.source))
    return VariantPlan(variant.loss_obj.name, steps, train.batch, tokens, seconds, len(trials), grids, memory)


def _size(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def _stops_early(recipe: Recipe) -> bool:
    return search.settings_of(recipe).early_stopping is not None
