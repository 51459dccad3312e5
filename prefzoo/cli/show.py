"""The commands that only show: check, data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.runtime.durations import duration

if TYPE_CHECKING:
    from prefzoo.data.audit import AuditedData
    from prefzoo.experiment.plan import Plan

CHECKED = (
    "name",
    "model",
    "parameters",
    "rows",
    "unit",
    "schema",
    "lost",
    "sources",
    "variants",
    "seconds",
    "warnings",
    "failing",
)
OF_VARIANT = ("loss", "steps", "batch", "tokens", "seconds", "trials")


def show_check(
    path: Path, overrides: Sequence[str], results: Path, launch: Path | None = None, *, as_json: bool = False
) -> bool:
    """Check a recipe, and print what it would do.

    Args:
        path: the recipe's file.
        overrides: `a.b=value` on top of it.
        results: the folder in which a run would make its folder.
        launch: an Accelerate profile that trainings would start under.
        as_json: print JSON instead of lines.

    Returns:
        Whether a part of the run would fail.

    Raises:
        UserError: the run would be refused.
    """
    from prefzoo.experiment.plan import plan_of

    progress = Console(stderr=True, emoji=False)
    plan = plan_of(path, overrides, str(results), progress if progress.is_terminal else None, launch)
    if as_json:
        values = {key: value for key, value in asdict(plan).items() if key in CHECKED}
        values |= {"time": plan.estimate.seconds | {"total": plan.estimate.total}, "disk": asdict(plan.estimate.disk)}
        of_variants = {n: {k: v[k] for k in OF_VARIANT} for n, v in values["variants"].items()}
        click.echo(json.dumps({**values, "variants": of_variants}, indent=1))
    else:
        _print_plan(plan, Console(soft_wrap=True))
    return bool(plan.failing)


def _print_data(plan: Plan, console: Console) -> None:
    from prefzoo.data.mixtures_view import sources_table

    size = f"{plan.parameters / 1e6:.0f}M parameters"
    console.print(f"{plan.name}: {plan.model} ({size}), {plan.rows} {plan.unit} ({plan.schema})", markup=False)
    for reason, count in plan.lost.items():
        console.print(f"  {count} {plan.unit} {reason}", markup=False)
    if plan.sources:
        console.print(sources_table(plan.sources))


def _print_plan(plan: Plan, console: Console) -> None:
    _print_data(plan, console)
    for name, one in plan.variants.items():
        steps = f"{one.steps} steps of {one.batch} {plan.unit}, {one.tokens:,.0f} tokens"
        often = f", {one.trials // plan.seeds} settings x {plan.seeds} seeds" if one.trials > 1 else ""
        console.print(f"  {name}: {one.loss}, {steps}, about {duration(one.seconds)}{often}")
        for source in one.grids:
            console.print(f"    grid: {source}", markup=False)
        if one.memory:
            console.print(f"    {one.memory}", markup=False)
    for line in plan.standing:
        console.print(line, markup=False, highlight=False)
    if plan.sweep:
        early = ", less what early stopping saves" if plan.early_stopping else ""
        console.print(f"{plan.trials} trials in all{early}")
    for line in plan.warnings:
        console.print(f"warning: {line}", markup=False, highlight=False)
    for place, reason in plan.failing.items():
        console.print(f"fails: {place}: {reason}", markup=False, highlight=False)
    for line in plan.estimate.lines():
        console.print(line, markup=False, highlight=False)


def show_data(
    path: Path, overrides: Sequence[str], *, as_json: bool = False, html: Path | None = None, ches: bool = False
) -> None:
    """Print every data set of a recipe: schema, one pair with its scored tokens, lengths, odd rows, losses.

    Args:
        path: the recipe's file.
        overrides: `a.b=value` on top of it.
        as_json: print JSON instead of tables.
        html: file to write the same to as a page, instead of printing it.
        ches: also score how alike the model sees the answers of each pair.

    Raises:
        UserError: the recipe, its tokenizer or its data is not as it must be, or the page cannot be written.
    """
    from prefzoo.data.audit_view import render
    from prefzoo.engine import models
    from prefzoo.evals.suites.prompts import load_prompts
    from prefzoo.experiment.data import read_data, reading_of
    from prefzoo.recipe import load as recipes

    console, recipe = Console(soft_wrap=True), recipes.load(path, overrides)
    model, tokenizer = models.load(recipe.model, recipe.folder, trust=recipe.trust_remote_code, merge=True)
    prompts = load_prompts(recipe.evals.prompts, recipe.folder) if recipe.evals.prompts else []
    sets = read_data(recipe, tokenizer, prompts, Console(stderr=True))
    if ches:
        sets = _with_ches(sets, model)
    if html is not None:
        from prefzoo.evals.report.data_page import write_page

        try:
            write_page(recipe.name, sets, tokenizer, reading_of(recipe), html)
        except OSError as e:
            raise UserError(f"{html}: cannot be written ({e.strerror}); name another file: --html FILE") from None
        click.echo(html)
    elif as_json:
        click.echo(json.dumps([asdict(one.audit) for one in sets.values()], indent=1, ensure_ascii=False))
    else:
        for one in sets.values():
            render(one.audit, console)


def _with_ches(sets: Mapping[str, AuditedData], model: Any) -> dict[str, AuditedData]:
    from prefzoo.engine.ches import with_ches
    from prefzoo.runtime.distributed import process_state
    from prefzoo.runtime.progress import stage

    model, scored = model.to(process_state().device).eval(), {}
    for use, data in sets.items():
        with stage(f"CHES scores, {use}", "pairs", Console(stderr=True)) as report:
            scored[use] = with_ches(data, model, report)
    return scored


def show_formats(*, as_json: bool = False) -> None:
    """Print every known format of data: its name, its columns, and an example.

    Args:
        as_json: print JSON instead of text.
    """
    from prefzoo.data.schemas import all_schemas

    schemas = all_schemas()
    if as_json:
        fields = [
            {"name": s.name, "description": s.description, "columns": s.columns, "example": s.example_rows}
            for s in schemas
        ]
        click.echo(json.dumps(fields, indent=1, ensure_ascii=False))
        return
    console = Console(soft_wrap=True, emoji=False)
    console.print(
        f"{len(schemas)} formats, told from columns and values. `data.format: NAME` in a recipe names one, "
        "`data.columns` maps other column names.\nMessages may have role and content or from and value; system, tools "
        "and chat_template_kwargs are read beside them.\n",
        markup=False, highlight=False,
    )  # fmt: skip
    for one in schemas:
        console.print(f"{one.name}: {one.description}", style="bold", markup=False, highlight=False)
        for row in one.example_rows:
            console.print(f"  {json.dumps(row, ensure_ascii=False)}", markup=False, highlight=False)
