"""The command `losses`: a table of losses and modifiers, one of them in full, the guide, and other libraries' names."""

from __future__ import annotations

import json
from collections.abc import Callable

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from prefzoo import losses as zoo
from prefzoo.cli.catalogue import ABOUT_MODIFIERS, ACTS, ALL_GROUPS, INPUTS, SYMBOLS, UNCITED, catalogue, knobs, summary
from prefzoo.cli.guide import situations, text_guide
from prefzoo.cli.peers import peers, text_peers
from prefzoo.errors import UserError
from prefzoo.runtime.maths import FORMULA, formula_text, plain


def show_losses(name: str | None, form: str | None = None) -> None:
    """Print a table of all losses by group, or one in full, or the catalogue in a format.

    Raises:
        UserError: there is no such loss, or it is a sum, which the catalogue does not list.
    """
    console = Console()
    if form is not None:
        one = None if name is None else zoo.look_up(name)
        if isinstance(one, zoo.Sum):
            raise UserError(f"--format lists single losses, and {one.name!r} is a sum; name one of its terms")
        click.echo(catalogue([*zoo.all_losses(), *zoo.all_modifiers()] if one is None else [one], form))
    elif name is None:
        _list_losses(console)
    else:
        _explain(console, zoo.look_up(name))


def show_guide(name: str | None, *, as_json: bool = False) -> None:
    """Print which losses to try in which situation.

    Args:
        name: A loss, for the situations in which it is recommended; None for all.
        as_json: Print JSON instead of text.

    Raises:
        UserError: There is no such loss.
    """
    if name is not None:
        zoo.look_up(name)
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
        zoo.look_up(name)
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
    every: list[zoo.Loss | zoo.Modifier] = [*zoo.all_losses(), *zoo.all_modifiers()]
    wide = console.width >= WIDE
    count = sum(isinstance(one, zoo.Loss) for one in every)
    table = Table(title=f"{count} losses and {len(every) - count} modifiers", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("what it does", ratio=1)
    table.add_column("needs", no_wrap=True)
    if wide:
        table.add_column("knobs", max_width=36)
    for group in ALL_GROUPS:
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
    console.print(plain(ABOUT_MODIFIERS), markup=False)


def _needs(loss: zoo.Loss | zoo.Sum | zoo.Modifier) -> list[str]:
    """Return in words what a loss or modifier needs besides the policy's log-probs of pairs."""
    if isinstance(loss, zoo.Modifier):
        return ["pairs"] * loss.pairs_only + [word for key, word in INPUTS.items() if key in loss.needs]
    return ["single answers"] * loss.unpaired + [word for key, word in INPUTS.items() if key in loss.needs]


def _explain(console: Console, one: zoo.Loss | zoo.Sum | zoo.Modifier) -> None:
    def say(text: str) -> None:
        console.print(plain(text), markup=False, highlight=False, soft_wrap=True)

    say(f"{one.name}\n\n{_indented(one.doc) or 'It has no docstring.'}\n")
    if FORMULA.search(one.doc):
        say(f"{SYMBOLS}\n")
    if one.paper:
        cited = "" if isinstance(one, zoo.Sum) else f", {one.equation or UNCITED}"
        say(f"paper: {one.paper}{cited}")
    if isinstance(one, zoo.Modifier):
        _explain_modifier(say, one)
    else:
        _explain_loss(say, one)
    if one.couples:
        say(f"couples the rows of a batch: {one.couples}")
    if one.provisional:
        say(f"provisional: {one.provisional}")


def _explain_modifier(say: Callable[[str], None], one: zoo.Modifier) -> None:
    say(f"changes: {ACTS[one.of_values]}")
    say(f"needs: {', '.join(_needs(one)) or 'nothing else'}")
    if one.excludes:
        say(f"not with: {', '.join(one.excludes)}")
    _say_notes(say, one)
    say(f"use: a variant's `modifiers: [{{{one.name}: {{}}}}]`, on any loss that it fits")


def _explain_loss(say: Callable[[str], None], loss: zoo.Loss | zoo.Sum) -> None:
    say(f"needs a reference: {'yes' if loss.needs_reference else 'no'}")
    others = [need for need in _needs(loss) if need != INPUTS["reference"]]
    if others:
        say(f"needs also: {', '.join(others)}")
    if isinstance(loss, zoo.Sum):
        for _, term in loss.terms:
            _say_knobs(say, term, f"{term.name}.")
    else:
        _say_notes(say, loss)


def _say_notes(say: Callable[[str], None], loss: zoo.Loss | zoo.Modifier) -> None:
    """Print what only a single loss or modifier has: knobs, learning rates, situations and traps."""
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


def _say_knobs(say: Callable[[str], None], loss: zoo.Loss | zoo.Modifier, prefix: str) -> None:
    for knob in knobs(loss):
        values = ", ".join(f"{v:g}" for v in knob["grid"])
        tuned = f", tuned over {values}" if values else ", no published values read"
        say(f"  {prefix}{knob['name']}: {knob['bounds']}, default {knob['default']}{tuned}")
