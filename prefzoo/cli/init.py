"""`prefzoo init`: a first recipe for a model and a data set."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from prefzoo.errors import UserError
from prefzoo.experiment.first_recipe import Inputs, write_recipe
from prefzoo.recipe import load
from prefzoo.runtime.atomic_files import write_atomically


def write(out: Path, model: str | None, data: str | None, held_out: str | None) -> None:
    """Ask for what is not given, read the data, and write a recipe.

    Args:
        out: The recipe's file, which must not exist.
        model: A folder, a GGUF file or a hub id; None to ask.
        data: Preference data, a file or a hub id; None to ask.
        held_out: Pairs for evaluation; None for none, or to ask where something else is asked.

    Raises:
        UserError: The file exists, something is missing and nobody can be asked, or the data cannot be read.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; name another file, or remove it")
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"{out}: a recipe's name ends in .yaml; write {out.with_suffix('.yaml')}")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder; make it first")
    asks = model is None or data is None
    inputs = Inputs(
        out,
        model or _asked("--model", "Model (a folder, a .gguf file or a hub id)"),
        data or _asked("--data", "Preference data (a file or a hub id)"),
        held_out or (_asked("--eval", "Held-out pairs (empty for none)", "") if asks else None) or None,
    )
    text, read = write_recipe(inputs)
    with write_atomically(out) as file:
        file.write_text(text, encoding="utf-8")
    recipe = load.load(out)
    click.echo(f"{inputs.train}: {len(read.examples):,} rows, {read.words}")
    click.echo(f"{out}: {', '.join(recipe.variants)}, with a comment on each line; next: prefzoo check {out}")


def _asked(option: str, question: str, default: str | None = None) -> str:
    if not sys.stdin.isatty():
        if default is not None:
            return default
        raise UserError(f"init: {option} is missing, and there is no terminal to ask on; give {option}")
    return str(click.prompt(question, default=default, show_default=False))
