"""The commands that only show: losses, check, data."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefzoo import losses as zoo
from prefzoo.cli.catalogue import UNCITED, catalogue, knobs
from prefzoo.errors import UserError
from prefzoo.recipe import load as recipes

if TYPE_CHECKING:
    from prefzoo.experiment.plan import Plan

CHECKED = ("name", "model", "parameters", "rows", "unit", "schema", "lost", "variants", "seconds")
OF_VARIANT = ("loss", "steps", "batch", "tokens", "seconds", "trials")


def show_losses(name: str | None, form: str | None = None) -> None:
    """Print a table of all losses by group, or one in full, or the catalogue in a format.

    Raises:
        UserError: there is no such loss, or it is a sum, which the catalogue does not list.
    """
    console = Console()
    if form is not None:
        one = None if name is None else zoo.get(name)
        if isinstance(one, zoo.Sum):
            raise UserError(f"--format lists single losses, and {one.name!r} is a sum; name one of its terms")
        click.echo(catalogue(list(zoo.all_losses()) if one is None else [one], form))
    elif name is None:
        _list_losses(console)
    else:
        _explain_loss(console, zoo.get(name))


def _list_losses(console: Console) -> None:
    every = list(zoo.all_losses())
    table = Table(title=f"{len(every)} losses")
    for column in ("name", "reference", "knobs", "paper"):
        table.add_column(column)
    for group in zoo.GROUPS:
        members = [loss for loss in every if loss.group == group]
        if members:
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        for loss in members:
            defaults = ", ".join(f"{k}={f.default}" for k, f in loss.Params.model_fields.items())
            shown = loss.name + (" ?" if loss.provisional else "")
            table.add_row(shown, "yes" if loss.needs_reference else "no", defaults or "-", escape(loss.paper))
    console.print(table)
    console.print("?: provisional, its formula is not yet read in the paper. `prefzoo losses NAME` explains one.")


def _explain_loss(console: Console, loss: zoo.Loss | zoo.Sum) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"{loss.name}\n\n{loss.doc}\n")
    cited = "" if isinstance(loss, zoo.Sum) else f", {loss.equation or UNCITED}"
    say(f"paper: {loss.paper}{cited}")
    say(f"needs a reference: {'yes' if loss.needs_reference else 'no'}")
    others = [name for name in ("scores", "kl", "mismatched") if name in loss.needs]
    if others or loss.unpaired:
        say(f"needs also: {', '.join(others + (['single answers'] if loss.unpaired else []))}")
    if isinstance(loss, zoo.Sum):
        for _, term in loss.terms:
            _say_knobs(say, term, f"{term.name}.")
    else:
        _say_knobs(say, loss, "")
        if loss.learning_rate:
            say(f"published learning rates: {', '.join(f'{rate:g}' for rate in loss.learning_rate)}")
        for trap in loss.traps:
            say(f"trap: {trap}")
    if loss.couples:
        say(f"couples the rows of a batch: {loss.couples}")
    if loss.provisional:
        say(f"provisional: {loss.provisional}")


def _say_knobs(say: Callable[[str], None], loss: zoo.Loss, prefix: str) -> None:
    for knob in knobs(loss):
        values = ", ".join(f"{v:g}" for v in knob["grid"])
        tuned = f", tuned over {values}" if values else ", no published values read"
        say(f"  {prefix}{knob['name']}: {knob['bounds']}, default {knob['default']}{tuned}")


def show_check(path: Path, overrides: Sequence[str], *, as_json: bool = False) -> None:
    """Print what a recipe would do.

    Args:
        path: the recipe's file.
        overrides: `a.b=value` on top of it.
        as_json: print JSON instead of lines.

    Raises:
        UserError: the recipe, its model or its data is not as it must be.
    """
    from prefzoo.experiment.plan import plan_of

    plan = plan_of(path, overrides)
    if as_json:
        values = {key: value for key, value in asdict(plan).items() if key in CHECKED}
        of_variants = {n: {k: v[k] for k in OF_VARIANT} for n, v in values["variants"].items()}
        click.echo(json.dumps({**values, "variants": of_variants}, indent=1))
    else:
        _print_plan(plan, Console(soft_wrap=True))


def _print_plan(plan: Plan, console: Console) -> None:
    size = f"{plan.parameters / 1e6:.0f}M parameters"
    console.print(f"{plan.name}: {plan.model} ({size}), {plan.rows} {plan.unit} ({plan.schema})")
    for reason, count in plan.lost.items():
        console.print(f"  {count} {plan.unit} {reason}")
    for name, one in plan.variants.items():
        steps = f"{one.steps} steps of {one.batch} {plan.unit}, {one.tokens:,.0f} tokens"
        often = f", {one.trials // plan.seeds} settings x {plan.seeds} seeds" if one.trials > 1 else ""
        console.print(f"  {name}: {one.loss}, {steps}, about {one.seconds:.0f} s{often}")
        for source in one.grids:
            console.print(f"    grid: {source}", markup=False)
        if one.memory:
            console.print(f"    {one.memory}", markup=False)
    if plan.sweep:
        early = ", less what early stopping saves" if plan.early_stopping else ""
        console.print(f"{plan.trials} trials in all{early}")
    console.print(f"training takes roughly {plan.seconds / 60:.1f} minutes here; evaluation and loading come on top")


def show_data(path: Path, overrides: Sequence[str], *, as_json: bool = False) -> None:
    """Print every data set of a recipe: schema, one pair with its scored tokens, lengths, duplicates, ties, losses.

    Args:
        path: the recipe's file.
        overrides: `a.b=value` on top of it.
        as_json: print JSON instead of tables.

    Raises:
        UserError: the recipe, its tokenizer or its data is not as it must be.
    """
    from prefzoo.data.audit import audit, render
    from prefzoo.engine import models

    console, recipe = Console(soft_wrap=True), recipes.load(path, overrides)
    _, tokenizer = models.load(recipe.model, recipe.folder, trust=recipe.trust_remote_code)
    data, columns = recipe.data, {str(k): v for k, v in recipe.data.columns.items()}
    specs = [spec for spec in (data.train, data.eval) if spec is not None]
    audits = (audit(spec, recipe.folder, columns, tokenizer, data.max_length, data.too_long) for spec in specs)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in audits], indent=1, ensure_ascii=False))
        return
    for one in audits:
        render(one, console)
