"""Plan a recipe: pairs, steps, tokens, memory, time and disk."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console

from prefzoo.data.mixtures import SourceCounts
from prefzoo.engine.precision import use_bf16
from prefzoo.experiment import facts, search
from prefzoo.experiment.base_room import bytes_that_stay
from prefzoo.experiment.check import Checked, check_known, check_run, load_checked
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.earlier_check import environment_of
from prefzoo.experiment.estimate import estimate
from prefzoo.experiment.jobs import plain_job
from prefzoo.experiment.plan_types import Plan, RunEstimate, VariantPlan
from prefzoo.experiment.request import Options, Request
from prefzoo.experiment.search import Trial
from prefzoo.experiment.standing_types import Standing, new_standing
from prefzoo.recipe.load import Recipe, Variant
from prefzoo.training.job import live_models, steps_of
from prefzoo.training.memory_estimate import memory_need


def plan_of(
    path: Path, overrides: Sequence[str], results: str = "results", console: Console | None = None,
    launch: Path | None = None, recipe: Recipe | None = None, fresh: bool = False,
) -> Plan:  # fmt: skip
    """Check a recipe and everything that it names, as a run does, and return its plan. Nothing is trained.

    Args:
        path: the recipe's file.
        overrides: `a.b=value` on top of it.
        results: the folder that holds the runs' folders.
        console: where progress goes; nowhere if None.
        launch: an Accelerate profile that trainings would start under.
        recipe: what the file holds with the overrides; None to read it.
        fresh: whether results of earlier checks are not used.

    Returns:
        The plan, with warnings and expected failures.

    Raises:
        UserError: the run would be refused.
    """
    request, console = Request(str(path), tuple(overrides), results), console or Console(quiet=True)
    recipe = load_checked(request, launch, recipe)
    keys = facts.keys_of(request, recipe, environment_of(request))
    if not fresh:
        with suppress(facts.Unknown):
            known = check_known(request, recipe, console, keys)
            if known is not None:
                return _plan(known, launch)
    checked = check_run(request, recipe, console)
    if keys is not None and not checked.failing:
        facts.write_facts(keys, checked.experiment, checked.overlap)
    return _plan(checked, launch)


def _plan(checked: Checked, launch: Path | None) -> Plan:
    """Return the plan of a run.

    Raises:
        Unknown: it is checked from facts, and one is missing.
    """
    experiment = checked.experiment
    recipe, trials = experiment.recipe, list(experiment.trials.values())
    size, config = experiment.base.size, experiment.base.config
    standing = _standing(experiment)
    estimated = estimate(experiment, checked.judge, standing)
    variants = {
        name: _plan_variant(experiment, variant, config, [t for t in trials if t.arm == name], estimated)
        for name, variant in recipe.variants.items()
    }
    audit = experiment.audits["train"]
    noun = "answers" if audit["single"] else "pairs"
    profile = _profile_warnings(launch) if launch else []
    return Plan(
        recipe.name, recipe.model, size, len(experiment.pairs), noun, audit["schema"],
        dict(audit["counts"]), variants, sum(v.seconds * v.trials for v in variants.values()), len(trials),
        len(recipe.seeds or [recipe.seed]), _stops_early(recipe), search.is_sweep(recipe), estimated,
        (*checked.warnings, *profile), checked.failing, tuple(standing.lines()),
        tuple(SourceCounts(**one) for one in audit["sources"]), _rounds(experiment), bytes_that_stay(experiment),
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


def _standing(experiment: Experiment) -> Standing:
    """Return the state of the run's folder; torch is imported only if the folder is not empty."""
    new = new_standing(experiment.folder, experiment.trials)
    if new is not None:
        return new
    from prefzoo.experiment.standing import standing_of

    return standing_of(experiment, Options())


def _profile_warnings(launch: Path) -> list[str]:
    from prefzoo.training.profiles import profile_warnings

    return profile_warnings(launch)


def _rounds(experiment: Experiment) -> tuple[str, ...]:
    if experiment.recipe.rounds is None:
        return ()
    from prefzoo.experiment.rounds import lines_of

    return lines_of(experiment)


def _stops_early(recipe: Recipe) -> bool:
    return search.settings_of(recipe).early_stopping is not None
