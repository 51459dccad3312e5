"""`prefzoo ls`: list the runs of a folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefzoo.cli.options import FILE, JSON
from prefzoo.runtime.durations import duration

if TYPE_CHECKING:
    from prefzoo.evals.boards.run_list import RunLine

SHOWN = 3  # leaders by name
COLUMNS = ("run", "state", "trained", "leader", "training time", "last change")


@click.command("ls")
@click.argument("results", type=FILE, default=Path("results"))
@JSON
def command(results: Path, as_json: bool) -> None:
    """List the runs under RESULTS: state, leader, time."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from prefzoo.evals.boards.run_list import list_runs

    lines = list_runs(results)
    if as_json:
        rows = [{**asdict(one), "changed": one.changed.isoformat(" ", "seconds")} for one in lines]
        click.echo(json.dumps(rows, indent=1))
    elif not lines:
        click.echo(f"no runs in {results}; prefzoo run writes one")
    else:
        table = Table(*COLUMNS, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for one in lines:
            cells = (one.folder, one.state, str(one.trained), _leader(one), duration(one.seconds))
            table.add_row(*map(escape, cells), one.changed.isoformat(" ", "minutes"))
        Console().print(table)


def _leader(one: RunLine) -> str:
    if len(one.leader) < 2:  # noqa: PLR2004 - a tie has two
        return one.leader[0] if one.leader else "-"
    more = f" and {len(one.leader) - SHOWN} more" if len(one.leader) > SHOWN else ""
    return f"tie: {', '.join(one.leader[:SHOWN])}{more}"
