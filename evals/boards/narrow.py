"""Markdown tables on a console that is too narrow for them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console
from rich.markdown import Markdown

TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)
BETWEEN = 2  # spaces between two columns
FEWEST = 2  # columns that always stay


def print_markdown(console: Console, text: str, whole: str) -> None:
    """Print Markdown; a table too wide for the console loses its last columns, and a line reports it.

    Args:
        console: where to print.
        text: the Markdown.
        whole: the file with all columns.
    """
    console.print(Markdown(TABLE.sub(lambda table: _fitted(table[0], console.width, whole), text)))


def _fitted(table: str, width: int, whole: str) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
    columns = list(zip(*(row for row in rows if not _is_rule(row)), strict=True))
    fitting, used = 0, 0
    for column in columns:
        used += max(map(len, column)) + BETWEEN
        if used > width and fitting >= FEWEST:
            break
        fitting += 1
    if fitting == len(columns):
        return table
    shorter = "".join(f"| {' | '.join(row[:fitting])} |\n" for row in rows)
    return f"{shorter}\nThe terminal is too narrow for all columns: {whole} has them.\n"


def _is_rule(row: Sequence[str]) -> bool:
    """Return whether this is the line under a table's head."""
    return all(set(cell) <= {"-", ":"} for cell in row)
