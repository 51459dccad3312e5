"""`prefzoo doctor` and `prefzoo footprint`: show what this machine has, and what training needs."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from prefzoo.cli.options import JSON


@click.command("doctor")
@JSON
def command(as_json: bool) -> None:
    """Show what is installed, what is missing, and how to get it.

    It covers hardware, precision, memory, disks, settings and packages.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from prefzoo.experiment.environment import BAD, GOOD, NOTE, examine

    findings = examine()
    broken = [one.name for one in findings if one.state == BAD]
    if as_json:
        click.echo(json.dumps({"ok": not broken, "findings": [asdict(one) for one in findings]}, indent=1))
        return
    table, group = Table(box=None, show_header=False, padding=(0, 1)), ""
    marks = {GOOD: "[green]ok[/green]", NOTE: "[dim]-[/dim]", BAD: "[red]![/red]"}
    for one in findings:
        if one.group != group:
            group = one.group
            table.add_row("", f"[bold]{group}[/bold]")
        cure = f"\n  {one.cure}" if one.cure else ""
        table.add_row(marks[one.state], one.name, escape(f"{one.says}{cure}"))
    Console(emoji=False).print(table)
    click.echo(f"\n{len(broken)} to fix: {', '.join(broken)}" if broken else "\neverything required is installed")


@click.command("footprint")
def footprint() -> None:
    """Show what training 1.5B, 8B and 70B models needs.

    It shows devices, memory and hours; `check` shows them for a recipe.
    """
    from prefzoo.training.model_sizes import table

    click.echo(table(), nl=False)
