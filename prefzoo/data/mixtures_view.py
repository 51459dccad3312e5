"""Print the sources of a mixture as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from prefzoo.data.mixtures import SourceCounts


def sources_table(sources: Sequence[SourceCounts]) -> Table:
    """Return a table of sources: rows, share of the mixture, how often rows are seen, tokens, format."""
    table = Table()
    table.add_column("source", overflow="fold")
    for head in ("rows", "used", "share", "tokens"):
        table.add_column(head, justify="right")
    table.add_column("in an epoch", overflow="fold")
    table.add_column("format", overflow="fold")
    for one in sources:
        cells = (f"{one.rows:,}", f"{one.kept:,}", f"{one.share:.1%}", f"{one.tokens:,}", one.words, one.schema)
        table.add_row(Text(one.name), *map(Text, cells))
    return table
