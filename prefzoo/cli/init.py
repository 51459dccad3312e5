"""`prefzoo init`: write a first recipe for a model and a data set."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from prefzoo.cli.options import FILE
from prefzoo.errors import UserError


@click.command("init")
@click.argument("recipe", type=FILE, default=Path("recipe.yaml"))
@click.option("--model", help="A folder, a .gguf file or a hub id.")
@click.option("--data", metavar="FILE|HUB-ID", help="The preference data.")
@click.option("--eval", "held_out", metavar="FILE|HUB-ID", help="Pairs that the training never sees.")
@click.option(
    "--columns", metavar="NAME=COLUMN,...", default="",
    help="The data's names for the columns of a format, like prompt=ask,chosen=good,rejected=bad.",
)  # fmt: skip
def command(recipe: Path, model: str | None, data: str | None, held_out: str | None, columns: str) -> None:
    """Write a first recipe, with a comment on each line.

    It reads the data, names losses that fit it, and asks for model and data if they are not given. Rows that cannot be
    used are counted, and the recipe leaves them out. `prefzoo check` accepts the result.
    """
    from prefzoo.experiment.first_recipe import RecipeInputs, write_recipe
    from prefzoo.recipe import load
    from prefzoo.runtime.run_folders import write_text

    if recipe.exists():
        raise UserError(f"{recipe}: already exists; name another file, or remove it")
    if recipe.suffix not in (".yaml", ".yml"):
        raise UserError(f"{recipe}: a recipe's name ends in .yaml; write {recipe.with_suffix('.yaml')}")
    if not recipe.parent.is_dir():
        raise UserError(f"{recipe.parent}: no such folder; create it first")
    asks = model is None or data is None
    inputs = RecipeInputs(
        recipe,
        model or _ask("--model", "Model (a folder, a .gguf file or a hub id)"),
        data or _ask("--data", "Preference data (a file or a hub id)"),
        held_out or (_ask("--eval", "Held-out pairs (empty for none)", "") if asks else None) or None,
        _columns(columns),
    )
    try:
        text, read = write_recipe(inputs)
    except UserError as e:
        lacks = not columns and any("data.columns" in line for line in e.lines)
        hint = "here, name columns by --columns prompt=NAME,chosen=NAME,rejected=NAME" if lacks else e.hint
        raise UserError(e.lines, hint) from None
    write_text(recipe, text)
    variants = load.load(recipe).variants
    click.echo(f"{inputs.train}: {len(read.data.examples):,} rows, {read.data.words}")
    if read.left_out:
        click.echo(f"{inputs.train}: {read.left_out}, left out by data.on_bad_row: drop; a run lists them in a file")
    click.echo(f"{recipe}: {', '.join(variants)}, with a comment on each line; next: prefzoo check {recipe}")


def _columns(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(name.strip() and column.strip() for name, _, column in pairs):
        raise UserError(f"--columns: {text!r} is not a list of NAME=COLUMN; write prompt=ask,chosen=good,rejected=bad")
    return {name.strip(): column.strip() for name, _, column in pairs}


def _ask(option: str, question: str, default: str | None = None) -> str:
    if not sys.stdin.isatty():
        if default is not None:
            return default
        raise UserError(f"init: {option} is missing, and there is no terminal to ask in; give {option}")
    return str(click.prompt(question, default=default, show_default=False))
