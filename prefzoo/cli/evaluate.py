"""`prefzoo eval --annotations`: win rates of AlpacaEval's annotation files, raw and length-controlled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.evals.boards.annotated import board, notes, render
from prefzoo.evals.judges.annotations import read
from prefzoo.runtime.run_folders import write_text


def show_annotations(
    paths: Sequence[Path], difficulties: Path | None, gamed: Path | None, order: Path | None, out: Path | None
) -> None:
    """Print the board; with `out`, keep all of its columns as csv."""
    if out is not None and out.suffix != ".csv":
        raise UserError(f"--out {out}: unknown kind of file {out.suffix!r}; use .csv")
    found, console = board(read(paths), difficulties, gamed, order), Console(soft_wrap=True, emoji=False)
    console.print(render(found))
    for line in notes(found):
        console.print(line, markup=False, highlight=False)
    if out is not None:
        write_text(out, found.to_csv(index_label="model"))
        console.print(f"all columns: {out}")
