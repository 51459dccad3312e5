"""`prefzoo leaderboard`: all runs of a folder, and the README that is generated from them."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.evals.boards.history import as_json, gather, page, render
from prefzoo.runtime import run_folders


def show_board(root: Path, *, write: bool, check: bool, plain: bool) -> None:
    """Print the board, or write it into `README.md`, or check that the page there is up to date.

    Raises:
        UserError: as `gather`; or the page is stale.
    """
    sections = gather(root)
    path = root / "README.md"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = page(sections, before)
    if check:
        if text != before:
            raise UserError(f"{path}: is stale; `prefzoo leaderboard {root} --write` makes it anew")
        click.echo(f"{path}: up to date")
    elif write:
        run_folders.write_text(path, text)
        click.echo(f"{path}: {'unchanged' if text == before else 'written'}")
    elif plain:
        click.echo(as_json(sections))
    else:
        render(sections, Console())
