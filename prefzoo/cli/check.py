"""`prefzoo check`: check all that a recipe needs, and show what a run would do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefzoo.cli.errors import PARTLY_FAILED
from prefzoo.cli.options import FILE, JSON, RECIPE, RESULTS, SET
from prefzoo.runtime.counts import short_count
from prefzoo.runtime.durations import duration
from prefzoo.training.memory_model import GIB

if TYPE_CHECKING:
    from prefzoo.experiment.plan_types import Plan
    from prefzoo.experiment.request import Request

CHECKED = (
    "name", "model", "parameters", "rows", "unit", "schema", "lost", "sources", "variants", "seconds", "warnings",
    "failing", "rounds",
)  # fmt: skip
OF_VARIANT = ("loss", "steps", "batch", "tokens", "seconds", "trials")


@click.command("check")
@RECIPE
@SET
@RESULTS
@click.option("--launch", type=FILE, help="The Accelerate profile of the trainings.")
@click.option("--fresh", is_flag=True, help="Reuse no result of earlier checks.")
@JSON
@click.pass_context
def command(
    context: click.Context, recipe: Path, overrides: tuple[str, ...], results: Path, launch: Path | None, fresh: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Check what RECIPE needs, and show what a run would do.

    It shows pairs, steps, tokens and memory, and how much time and disk each part of the run takes on this machine.

    Every input is opened and every plug-in is called on made-up pairs. Nothing is trained, and no server is asked.
    Results of earlier checks are reused if nothing that they depend on has changed; --fresh checks everything.
    """
    from prefzoo.experiment.request import Request

    request = Request(str(recipe), overrides, str(results))
    plan = (None if fresh else _earlier(request, launch)) or _plan(request, launch, fresh=fresh)
    if as_json:
        values = {key: value for key, value in {**plan.plain(), "warnings": plan.warnings}.items() if key in CHECKED}
        values |= {"time": plan.estimate.seconds | {"total": plan.estimate.total}, "disk": asdict(plan.estimate.disk)}
        costs = {"dollars": plan.estimate.dollars, "joules": plan.estimate.joules}
        values |= {"cost": {name: value for name, value in costs.items() if value is not None}}
        of_variants = {n: {k: v[k] for k in OF_VARIANT} for n, v in values["variants"].items()}
        click.echo(json.dumps({**values, "variants": of_variants}, indent=1))
    else:
        _print_plan(plan)
    if plan.failing:
        context.exit(PARTLY_FAILED)


def _earlier(request: Request, launch: Path | None) -> Plan | None:
    from prefzoo.experiment.earlier_check import read_check

    plan = read_check(request, launch)
    if plan is not None:
        click.echo("nothing has changed since the last check, so its result is shown; --fresh checks again", err=True)
    return plan


def _plan(request: Request, launch: Path | None, *, fresh: bool) -> Plan:
    from prefzoo.recipe import load

    recipe = load.load(Path(request.recipe), request.overrides)  # mistakes are reported before torch is imported
    from rich.console import Console

    progress = Console(stderr=True, emoji=False)
    if progress.is_terminal:
        variants = f"{len(recipe.variants)} variant{'s' * (len(recipe.variants) > 1)}"
        click.echo(f"{request.recipe}: checking {variants} of {recipe.model}", err=True)
    from prefzoo.experiment.earlier_check import inputs_of, write_check
    from prefzoo.experiment.plan import plan_of

    inputs = inputs_of(request, recipe)
    shown = progress if progress.is_terminal else None
    plan = plan_of(Path(request.recipe), request.overrides, request.results, shown, launch, recipe, fresh)
    write_check(request, launch, plan, inputs)
    return plan


def _print_plan(plan: Plan) -> None:
    size = f"{short_count(plan.parameters)} parameters"
    click.echo(f"{plan.name}: {plan.model} ({size}), {plan.rows} {plan.unit} ({plan.schema})")
    for reason, count in plan.lost.items():
        click.echo(f"  {count} {plan.unit} {reason}")
    if plan.sources:
        from rich.console import Console

        from prefzoo.data.mixtures_view import sources_table

        Console(soft_wrap=True).print(sources_table(plan.sources))
    for line in _lines(plan):
        click.echo(line)


def _lines(plan: Plan) -> Iterator[str]:
    """Yield the lines below the data: variants, contents of the folder, warnings, failures, time and disk."""
    for name, one in plan.variants.items():
        steps = f"{one.steps} steps of {one.batch} {plan.unit}, {one.tokens:,.0f} tokens"
        often = f", {one.trials // plan.seeds} settings x {plan.seeds} seeds" if one.trials > 1 else ""
        yield f"  {name}: {one.loss}, {steps}, about {duration(one.seconds)}{often}"
        yield from (f"    grid: {source}" for source in one.grids)
        if one.memory is not None:
            yield f"    {one.memory.line}"
    if plan.base_stays:
        yield f"  the untrained model stays in memory beside each training: {plan.base_stays / GIB:.1f} GiB more"
    yield from plan.rounds
    yield from plan.standing
    if plan.sweep:
        yield f"{plan.trials} trials in all{', less what early stopping saves' if plan.early_stopping else ''}"
    yield from (f"warning: {line}" for line in plan.warnings)
    yield from (f"fails: {place}: {reason}" for place, reason in plan.failing.items())
    yield from plan.estimate.lines()
