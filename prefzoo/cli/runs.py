"""`prefzoo ls`: the runs of a folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefzoo.evals.boards.run_list import RunLine, list_runs

SHOWN = 3  # leaders by name
MINUTE, HOUR = 60, 3600


def show_runs(root: Path, *, as_json: bool = False) -> None:
    """Print the runs under a folder, the one that changed last first.

    Args:
        root: The folder that runs were written to.
        as_json: Print JSON instead of a table.

    Raises:
        UserError: There is no such folder.
    """
    lines = list_runs(root)
    if as_json:
        rows = [{**asdict(one), "changed": one.changed.isoformat(" ", "seconds")} for one in lines]
        click.echo(json.dumps(rows, indent=1))
        return
    if not lines:
        click.echo(f"no runs in {root}; prefzoo run writes one")
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("run", "state", "trained", "leader", "training time", "last change"):
        table.add_column(title)
    for one in lines:
        numbers = (str(one.trained), escape(_leader(one)), _time(one.seconds), one.changed.isoformat(" ", "minutes"))
        table.add_row(escape(one.folder), one.state, *numbers)
    Console().print(table)


def _leader(one: RunLine) -> str:
    if len(one.leader) < 2:  # noqa: PLR2004 - a tie has two
        return one.leader[0] if one.leader else "-"
    more = f" and {len(one.leader) - SHOWN} more" if len(one.leader) > SHOWN else ""
    return f"tie: {', '.join(one.leader[:SHOWN])}{more}"


def _time(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / MINUTE), HOUR // MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
