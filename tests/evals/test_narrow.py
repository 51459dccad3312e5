"""Tables on a narrow console lose whole columns, never parts of a cell, and say so."""

from __future__ import annotations

import pytest
from rich.console import Console

from prefzoo.evals.boards.narrow import print_markdown

NAMES = [f"dpo-s{i}" for i in range(9)]
WIDE = (
    f"Before.\n\n| variant | {' | '.join(NAMES)} |\n|{'---|' * 10}\n| dpo-s0 | {' | '.join(['51.7%'] * 9)} |\n"
    "\nAfter.\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n"
)


@pytest.mark.parametrize(("width", "columns"), [(200, 9), (80, 8), (40, 3)])
def test_columns_that_do_not_fit_are_left_out_whole(
    width: int, columns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    print_markdown(Console(width=width), WIDE, "leaderboard.md")
    out = capsys.readouterr().out
    assert [name in out for name in NAMES] == [True] * columns + [False] * (9 - columns)
    assert out.count("51.7%") == columns and "…" not in out and "After." in out
    assert ("The terminal is too narrow for all columns: leaderboard.md has" in " ".join(out.split())) == (columns < 9)
