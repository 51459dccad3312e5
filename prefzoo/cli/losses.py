"""`prefzoo losses`: list losses and modifiers, explain one, print the guide and other libraries' names."""

from __future__ import annotations

import json
from pathlib import Path

import click

from prefzoo.cli import complete
from prefzoo.cli.options import FILE, JSON
from prefzoo.errors import UserError

WIDE = 110  # columns of a terminal that has room for the knobs, too
HINT = (
    "?: provisional, its formula was not read in the paper. `prefzoo losses NAME` explains a loss: formula, knobs, "
    "paper, traps. `prefzoo losses --guide` shows which to try in which situation."
)


@click.command("losses")
@click.argument("name", required=False, shell_complete=complete.losses)
@JSON
@click.option("--format", "form", type=click.Choice(["md", "json", "html"]), help="Print the catalogue in this format.")
@click.option("--guide", is_flag=True, help="Show which losses to try in which situation; with NAME, when to try it.")
@click.option("--traps", is_flag=True, help="List names that mean another loss in other libraries.")
@click.option(
    "--plot", type=FILE, metavar="FOLDER", help="Draw value and slope of losses, and the changes by modifiers."
)
def command(name: str | None, as_json: bool, form: str | None, guide: bool, traps: bool, plot: Path | None) -> None:
    """List the losses, or explain one.

    The list has a line for each loss, by group. NAME shows the formula, the paper, the knobs with bounds, defaults and
    published values, and known traps; it may be a sum like "dpo + 0.2*sft" or your own loss, my_losses.py:mine.
    """
    if plot is not None:
        show_plots(name, plot)
    elif guide or traps:
        if form is not None:
            option = "--guide" if guide else "--traps"
            raise UserError(f"{option}: prints text, or JSON with --json; --format md and html include it")
        if guide and traps:
            raise UserError("--guide and --traps: print one at a time; --format md and html include both")
        show_advice(name, guide=guide, as_json=as_json)
    else:
        show_losses(name, "json" if as_json else form)


def show_plots(name: str | None, folder: Path) -> None:
    """Draw one loss or modifier, or all of them, and print the number of pictures.

    Raises:
        UserError: There is no such loss, or it is a sum of losses.
    """
    from prefzoo import losses as zoo
    from prefzoo.evals.report.loss_plots import draw
    from prefzoo.evals.report.modifier_plots import draw_modifiers

    one = None if name is None else zoo.look_up(name)
    if isinstance(one, zoo.Sum):
        raise UserError(f"--plot draws single losses, and {one.name!r} is a sum; name one of its terms")
    if isinstance(one, zoo.Modifier):
        written = draw_modifiers([one], folder)
    elif one is not None:
        written = draw([one], folder)
    else:
        written = [*draw(list(zoo.all_losses()), folder), *draw_modifiers(list(zoo.all_modifiers()), folder)]
    click.echo(f"{len(written)} picture{'s' * (len(written) != 1)} in {folder}")


def show_losses(name: str | None, form: str | None = None) -> None:
    """Print a table of all losses by group, or one in full, or the catalogue in a format.

    Raises:
        UserError: There is no such loss, or it is a sum, which the catalogue does not list.
    """
    from prefzoo import losses as zoo
    from prefzoo.catalogue.explanation import explanation
    from prefzoo.catalogue.pages import catalogue

    one = None if name is None else zoo.look_up(name)
    if form is not None:
        if isinstance(one, zoo.Sum):
            raise UserError(f"--format lists single losses, and {one.name!r} is a sum; name one of its terms")
        click.echo(catalogue([*zoo.all_losses(), *zoo.all_modifiers()] if one is None else [one], form))
    elif one is None:
        _print_table()
    else:
        for line in explanation(one):
            click.echo(line)


def show_advice(name: str | None, *, guide: bool, as_json: bool = False) -> None:
    """Print which losses to try in which situation, or where other libraries mean another loss by the same name.

    Args:
        name: A loss, to print only its entries; None for all.
        guide: Whether to print which losses to try.
        as_json: Print JSON instead of text.

    Raises:
        UserError: There is no such loss.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from prefzoo import losses as zoo
    from prefzoo.catalogue.guide import situations, text_guide
    from prefzoo.catalogue.peers import peers, text_peers

    if name is not None:
        zoo.look_up(name)
    if as_json:
        click.echo(json.dumps(situations(name) if guide else peers(name), indent=1, ensure_ascii=False))
        return
    lines, console = text_guide(name) if guide else text_peers(name), Console(highlight=False)
    if not lines and guide:
        console.print(f"{name} is in no list of the guide; `prefzoo losses {name}` explains it.", markup=False)
    elif not lines:
        console.print(
            f"No other meaning of {name} is known; `prefzoo losses {name}` shows its own traps.", markup=False
        )
    for role, line in lines:
        if role == "pick":
            console.print(Padding(Text(line), (0, 0, 0, 4), expand=False))
        else:
            console.print(Text(line, style={"title": "bold", "note": "dim"}.get(role, "")))


def _print_table() -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from prefzoo import losses as zoo
    from prefzoo.catalogue.explanation import needs
    from prefzoo.catalogue.pages import ABOUT_MODIFIERS, ALL_GROUPS, summary
    from prefzoo.runtime.maths import plain

    console, modifiers = Console(), list(zoo.all_modifiers())
    every: list[zoo.Loss | zoo.Modifier] = [*zoo.all_losses(), *modifiers]
    wide = console.width >= WIDE
    title = f"{len(every) - len(modifiers)} losses and {len(modifiers)} modifiers"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("what it does", ratio=1)
    table.add_column("needs", no_wrap=True)
    if wide:
        table.add_column("knobs", max_width=36)
    for group in ALL_GROUPS:
        members = [one for one in every if one.group == group]
        if members:
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        for one in members:
            defaults = ", ".join(f"{k}={f.default}" for k, f in one.Params.model_fields.items())
            shown = one.name + (" ?" if one.provisional else "")
            cells = [shown, escape(summary(one)), "\n".join(needs(one)) or "-"]
            table.add_row(*cells, *([defaults or "-"] if wide else []))
    console.print(table)
    console.print(HINT)
    console.print(plain(ABOUT_MODIFIERS), markup=False)
