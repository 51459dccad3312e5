"""`prefzoo compare`: compare runs and variants, or result files of other tools."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefzoo.cli.options import EQUIVALENCE, FILE
from prefzoo.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

TWO = 2  # columns that name a row
DIFFERENCES = "Differences from the base in points, paired by document; p after Holm."
WIDTH = 120  # of a table in a file


@click.command("compare")
@click.argument("targets", nargs=-1, type=FILE, required=True, metavar="RUN[/VARIANT]...")
@click.option("--baseline", metavar="VARIANT", help="Variant to take differences from; by default the base.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Show only this metric; repeatable.")
@click.option("--sort", metavar="METRIC", help="Metric to rank by, or a cost like seconds; by default win_rate.")
@click.option(
    "--format", "form", type=click.Choice(["table", "md", "csv", "json", "html", "parquet"]), default="table",
    show_default=True,
)  # fmt: skip
@click.option("--output", type=FILE, help="Write to this file; required for parquet.")
@click.option("--unranked", is_flag=True, help="Also show what cannot be ranked: other prompts, judge or base.")
@click.option("--by-seed", is_flag=True, help="Show each seed of a variant in a row of its own.")
@EQUIVALENCE
def command(
    targets: tuple[Path, ...], baseline: str | None, metrics: tuple[str, ...], sort: str | None, form: str,
    output: Path | None, unranked: bool, by_seed: bool, equivalence: float | None,
) -> None:  # fmt: skip
    """Compare runs and variants side by side.

    It shows numbers with intervals, paired differences, recipes and costs.
    """
    if form == "parquet" and output is None:
        raise UserError("--format parquet: is binary and needs a file; add --output FILE")
    from prefzoo.evals.boards.result_files import holds_results

    if any(map(holds_results, targets)):
        asked = {
            "--metric": metrics,
            "--sort": sort,
            "--unranked": unranked,
            "--by-seed": by_seed,
            "--equivalence": equivalence,
        }
        _refuse_for_result_files([option for option, value in asked.items() if value], form)
        _give(_results_text(targets, baseline, form, output), output)
        return
    from prefzoo.evals.boards.comparison import compare
    from prefzoo.evals.boards.tables import render, text, write_parquet
    from prefzoo.runtime.atomic_files import write_atomically

    comparison = compare(targets, baseline, metrics or None, sort, unranked, equivalence, by_seed=by_seed)
    if form == "parquet" and output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(output) as partial:
            write_parquet(comparison, partial)
        click.echo(f"written: {output}", err=True)
    elif form == "table":
        console = _console(output)
        render(comparison, console)
        _give("" if output is None else console.export_text(), output)
    else:
        _give(text(comparison, form), output)


def _console(output: Path | None) -> Console:
    """Return the terminal, or a page of fixed width whose text is written to the output."""
    from rich.console import Console

    return Console(emoji=False) if output is None else Console(record=True, file=io.StringIO(), width=WIDTH)


def _give(text: str, output: Path | None) -> None:
    """Write a text to a file, or print it."""
    if output is None:
        click.echo(text, nl=False)
        return
    from prefzoo.runtime.run_folders import write_text

    write_text(output, text)
    click.echo(f"written: {output}", err=True)


def _refuse_for_result_files(options: Sequence[str], form: str) -> None:
    if options or form not in ("table", "md", "csv", "json"):
        ignored = ", ".join([*options, *([f"--format {form}"] if form in ("html", "parquet") else [])])
        raise UserError(f"{ignored}: has no effect for result files of other tools; leave it out")


def _results_text(paths: Sequence[Path], baseline: str | None, form: str, output: Path | None) -> str:
    """Return the board of result files of other tools; a table for the terminal is printed here."""
    from prefzoo.evals.boards import cells
    from prefzoo.evals.boards.result_files import read_any, text, with_baseline
    from prefzoo.runtime.run_folders import BASE

    results = with_baseline(read_any(paths), baseline, "--baseline")
    board = results.board()
    if form != "table":
        return text(board, form)
    console = _console(output)
    console.print(f"{BASE}: {results.baseline}", markup=False, highlight=False, soft_wrap=True)
    board.render(console)
    differences = board.diagnostics().astype(str)
    if len(differences.columns) > TWO:
        console.print(cells.table(differences, DIFFERENCES), markup=False)
    return "" if output is None else console.export_text()
