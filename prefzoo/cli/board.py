"""`prefzoo leaderboard`: all runs of a folder, and the README that is generated from them."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.evals.boards.history import as_json, gather, page, render
from prefzoo.runtime import run_folders


def show_board(root: Path, *, write: bool, check: bool, plain: bool) -> None:
    """Print the board, or write it into `README.md`, or see that what stands there is still true.

    Raises:
        UserError: as `gather`; or the page is stale.
    """
    sections = gather(root)
    place = root / "README.md"
    before = place.read_text(encoding="utf-8") if place.is_file() else ""
    made = page(sections, before)
    if check:
        if made != before:
            raise UserError(f"{place}: is stale; `prefzoo leaderboard {root} --write` makes it anew")
        click.echo(f"{place}: up to date")
    elif write:
        run_folders.write_text(place, made)
        click.echo(f"{place}: {'unchanged' if made == before else 'written'}")
    elif plain:
        click.echo(as_json(sections))
    else:
        render(sections, Console())
