"""The commands that only show: losses, check, data."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from prefzoo import losses as zoo
from prefzoo.cli.catalogue import INPUTS, SYMBOLS, UNCITED, catalogue, knobs, summary
from prefzoo.cli.guide import situations, text_guide
from prefzoo.cli.peers import peers, text_peers
from prefzoo.errors import UserError
from prefzoo.runtime.durations import duration
from prefzoo.runtime.maths import FORMULA, formula_text, plain

if TYPE_CHECKING:
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


def show_guide(name: str | None, *, as_json: bool = False) -> None:
    """Print which losses to try in which situation.

    Args:
        name: A loss, for the situations in which it is recommended; None for all.
        as_json: Print JSON instead of text.

    Raises:
        UserError: There is no such loss.
    """
    if name is not None:
        zoo.get(name)
    if as_json:
        click.echo(json.dumps(situations(name), indent=1, ensure_ascii=False))
        return
    _print_lines(text_guide(name), f"{name} is in no list of the guide; `prefzoo losses {name}` explains it.")


def show_peers(name: str | None, *, as_json: bool = False) -> None:
    """Print where other libraries mean another loss by the same name.

    Args:
        name: A loss, for what concerns it; None for all.
        as_json: Print JSON instead of text.

    Raises:
        UserError: There is no such loss.
    """
    if name is not None:
        zoo.get(name)
    if as_json:
        click.echo(json.dumps(peers(name), indent=1, ensure_ascii=False))
        return
    _print_lines(text_peers(name), f"No other meaning of {name} was read; `prefzoo losses {name}` shows its own traps.")


def _print_lines(lines: list[tuple[str, str]], instead: str) -> None:
    """Print lines by their roles, or one sentence if there is none."""
    console = Console(highlight=False)
    if not lines:
        console.print(instead, markup=False)
    for role, line in lines:
        if role == "pick":
            console.print(Padding(Text(line), (0, 0, 0, 4), expand=False))
        else:
            console.print(Text(line, style={"title": "bold", "note": "dim"}.get(role, "")))


WIDE = 110  # columns of a terminal that has room for the knobs, too


def _list_losses(console: Console) -> None:
    every, wide = list(zoo.all_losses()), console.width >= WIDE
    table = Table(title=f"{len(every)} losses", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("what it does", ratio=1)
    table.add_column("needs", no_wrap=True)
    if wide:
        table.add_column("knobs", max_width=36)
    for group in zoo.GROUPS:
        members = [loss for loss in every if loss.group == group]
        if members:
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        for loss in members:
            defaults = ", ".join(f"{k}={f.default}" for k, f in loss.Params.model_fields.items())
            shown = loss.name + (" ?" if loss.provisional else "")
            cells = [shown, escape(summary(loss)), "\n".join(_needs(loss)) or "-"]
            table.add_row(*cells, *([defaults or "-"] if wide else []))
    console.print(table)
    console.print(
        "?: provisional, its formula is not yet read in the paper. `prefzoo losses NAME` explains a loss: formula, "
        "knobs, paper, traps. `prefzoo losses --guide` says which to try in which situation."
    )


def _needs(loss: zoo.Loss | zoo.Sum) -> list[str]:
    """Return in words what a loss needs besides the policy's log-probs of pairs."""
    return ["single answers"] * loss.unpaired + [word for key, word in INPUTS.items() if key in loss.needs]


def _explain_loss(console: Console, loss: zoo.Loss | zoo.Sum) -> None:
    def say(text: str) -> None:
        console.print(plain(text), markup=False, highlight=False, soft_wrap=True)

    say(f"{loss.name}\n\n{_indented(loss.doc) or 'It has no docstring.'}\n")
    if FORMULA.search(loss.doc):
        say(f"{SYMBOLS}\n")
    if loss.paper:
        cited = "" if isinstance(loss, zoo.Sum) else f", {loss.equation or UNCITED}"
        say(f"paper: {loss.paper}{cited}")
    say(f"needs a reference: {'yes' if loss.needs_reference else 'no'}")
    others = [need for need in _needs(loss) if need != INPUTS["reference"]]
    if others:
        say(f"needs also: {', '.join(others)}")
    if isinstance(loss, zoo.Sum):
        for _, term in loss.terms:
            _say_knobs(say, term, f"{term.name}.")
    else:
        _say_notes(say, loss)
    if loss.couples:
        say(f"couples the rows of a batch: {loss.couples}")
    if loss.provisional:
        say(f"provisional: {loss.provisional}")


def _say_notes(say: Callable[[str], None], loss: zoo.Loss) -> None:
    """Print what only a single loss has: knobs, learning rates, situations and traps."""
    _say_knobs(say, loss, "")
    if loss.learning_rate:
        say(f"published learning rates: {', '.join(f'{rate:g}' for rate in loss.learning_rate)}")
    for one in situations(loss.name):
        say(f"try it for: {one['situation']}")
    for trap in loss.traps:
        say(f"trap: {trap}")


def _indented(doc: str) -> str:
    """Return a docstring with every displayed formula on a line of its own, indented."""
    return FORMULA.sub(lambda m: f"    {formula_text(m.group(1))}" if m.group(1) else m.group(), doc)


def _say_knobs(say: Callable[[str], None], loss: zoo.Loss, prefix: str) -> None:
    for knob in knobs(loss):
        values = ", ".join(f"{v:g}" for v in knob["grid"])
        tuned = f", tuned over {values}" if values else ", no published values read"
        say(f"  {prefix}{knob['name']}: {knob['bounds']}, default {knob['default']}{tuned}")


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


def show_data(path: Path, overrides: Sequence[str], *, as_json: bool = False, html: Path | None = None) -> None:
    """Print every data set of a recipe: schema, one pair with its scored tokens, lengths, odd rows, losses.

    Args:
        path: the recipe's file.
        overrides: `a.b=value` on top of it.
        as_json: print JSON instead of tables.
        html: file to write the same to as a page, instead of printing it.

    Raises:
        UserError: the recipe, its tokenizer or its data is not as it must be, or the page cannot be written.
    """
    from prefzoo.data.audit import with_roles
    from prefzoo.data.audit_view import render
    from prefzoo.engine import models
    from prefzoo.evals.suites.prompts import load_prompts
    from prefzoo.experiment.data import read_data, reading_of
    from prefzoo.recipe import load as recipes

    console, recipe = Console(soft_wrap=True), recipes.load(path, overrides)
    _, tokenizer = models.load(recipe.model, recipe.folder, trust=recipe.trust_remote_code, merge=True)
    prompts = load_prompts(recipe.evals.prompts, recipe.folder) if recipe.evals.prompts else []
    reading = reading_of(recipe)
    sets = {use: with_roles(one, tokenizer, reading) for use, one in read_data(recipe, tokenizer, prompts).items()}
    if html is not None:
        from prefzoo.evals.report.data_page import write_page

        try:
            write_page(recipe.name, sets, tokenizer, reading, html)
        except OSError as e:
            raise UserError(f"{html}: cannot be written ({e.strerror}); name another file: --html FILE") from None
        click.echo(html)
    elif as_json:
        click.echo(json.dumps([asdict(one.audit) for one in sets.values()], indent=1, ensure_ascii=False))
    else:
        for one in sets.values():
            render(one.audit, console)


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
