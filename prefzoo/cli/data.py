"""`prefzoo data`: show how a recipe's data is read, and list the known formats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefzoo.cli import complete
from prefzoo.cli.options import FILE, JSON, RECIPE_FILE, SET, read_recipe
from prefzoo.errors import UserError

if TYPE_CHECKING:
    from prefzoo.data.audit import AuditedData
    from prefzoo.recipe.load import Recipe

ABOUT_FORMATS = (
    "{count} formats, recognised by columns and values. `data.format: NAME` in a recipe names one, `data.columns` maps "
    "other column names.\nMessages may have role and content or from and value; system, tools and "
    "chat_template_kwargs are read beside them.\n"
)


@click.command("data")
@click.argument("recipe", type=RECIPE_FILE, required=False, shell_complete=complete.recipes)
@SET
@JSON
@click.option("--formats", is_flag=True, help="List every known format of data, with an example each.")
@click.option(
    "--html", type=FILE, is_flag=False, flag_value=Path("data.html"), metavar="[FILE]",
    help="Write everything as a page, with ten rows of each data set; by default to data.html.",
)  # fmt: skip
@click.option(
    "--ches",
    is_flag=True,
    help="Score how similar the two answers of each pair are to the model; one pass for each pair.",
)
def command(
    recipe: Path | None, overrides: tuple[str, ...], as_json: bool, formats: bool, html: Path | None, ches: bool
) -> None:  # fmt: skip
    """Show how RECIPE's data is read.

    It shows the schema, a pair with its scored tokens, lengths, ties, odd rows (contradictions, leaks into held-out
    data, refusals, other languages), and which rows are dropped and why.
    """
    if ches and formats:
        raise click.UsageError("--ches scores a recipe's pairs; leave out --formats.")
    if html is not None and (as_json or formats):
        raise click.UsageError(f"--html writes a page; leave out {'--json' if as_json else '--formats'}.")
    if html is not None and html.suffix not in (".html", ".htm"):
        raise click.UsageError(f"--html: the page's file must end with .html (is {html}); write RECIPE before --html.")
    if formats:
        _show_formats(as_json=as_json)
    elif recipe is None:
        raise click.UsageError("Missing argument 'RECIPE'; `prefzoo data --formats` needs none.")
    else:
        _show_data(read_recipe(recipe, overrides), as_json=as_json, html=html, ches=ches)


def _show_data(recipe: Recipe, *, as_json: bool, html: Path | None, ches: bool) -> None:
    """Print every data set of a recipe, or write them to a page: schema, one pair, lengths, odd rows, losses.

    Raises:
        UserError: The recipe, its tokenizer or its data is wrong, or the page cannot be written.
    """
    from rich.console import Console

    from prefzoo.data.audit_view import render
    from prefzoo.engine.tokenizers import load_tokenizer
    from prefzoo.evals.suites.prompts import load_prompts
    from prefzoo.experiment.data import read_data, reading_of

    tokenizer = load_tokenizer(recipe.model, recipe.folder, trust=recipe.trust_remote_code)
    prompts = load_prompts(recipe.evals.prompts, recipe.folder) if recipe.evals.prompts else []
    sets = read_data(recipe, tokenizer, prompts, Console(stderr=True))
    if ches:
        sets = _with_ches(sets, recipe)
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
        console = Console(soft_wrap=True)
        for one in sets.values():
            render(one.audit, console)


def _with_ches(sets: Mapping[str, AuditedData], recipe: Recipe) -> dict[str, AuditedData]:
    from rich.console import Console

    from prefzoo.engine import models
    from prefzoo.engine.ches import with_ches
    from prefzoo.runtime.distributed import process_state
    from prefzoo.runtime.progress import stage

    model, _ = models.load(recipe.model, recipe.folder, trust=recipe.trust_remote_code, merge=True)
    model, scored = model.to(process_state().device).eval(), {}
    for use, data in sets.items():
        with stage(f"CHES scores, {use}", "pairs", Console(stderr=True)) as report:
            scored[use] = with_ches(data, model, report)
    return scored


def _show_formats(*, as_json: bool) -> None:
    """Print every known format of data: its name, its columns, and an example."""
    from rich.console import Console

    from prefzoo.data.schemas import all_schemas

    schemas = all_schemas()
    if as_json:
        fields = [
            {"name": s.name, "description": s.description, "columns": s.columns, "example": s.example_rows}
            for s in schemas
        ]
        click.echo(json.dumps(fields, indent=1, ensure_ascii=False))
        return
    console = Console(soft_wrap=True, emoji=False, markup=False, highlight=False)
    console.print(ABOUT_FORMATS.format(count=len(schemas)))
    for one in schemas:
        console.print(f"{one.name}: {one.description}", style="bold")
        for row in one.example_rows:
            console.print(f"  {json.dumps(row, ensure_ascii=False)}")
