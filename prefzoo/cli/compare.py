"""`prefzoo compare`: any runs and variants side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.evals.boards.comparison import compare
from prefzoo.evals.boards.tables import render, text, write_parquet
from prefzoo.runtime import atomic_files, run_folders

WIDTH = 120  # of a table in a file


def show_comparison(
    paths: Sequence[Path], baseline: str | None, metrics: Sequence[str], sort: str | None, form: str,
    output: Path | None, *, unranked: bool, equivalence: float | None = None,
) -> None:  # fmt: skip
    """Print it, or write it to a file.

    Raises:
        UserError: as `compare`, or Parquet without a file.
    """
    if form == "parquet" and output is None:
        raise UserError("--format parquet: is binary, and no file is named; add --output FILE")
    comparison = compare(paths, baseline, metrics or None, sort, unranked, equivalence)
    if form == "table":
        console = Console() if output is None else Console(record=True, file=io.StringIO(), width=WIDTH)
        render(comparison, console)
        if output is not None:
            run_folders.write_text(output, console.export_text())
    elif form == "parquet" and output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_files.write_atomically(output) as partial:
            write_parquet(comparison, partial)
    elif output is not None:
        run_folders.write_text(output, text(comparison, form))
    else:
        click.echo(text(comparison, form), nl=False)
    if output is not None:
        click.echo(f"written: {output}", err=True)
