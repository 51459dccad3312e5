"""`prefzoo eval --lm-eval-results PATH...`: what lm-eval's own command line found, in the long table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.boards import leaderboard
from prefzoo.evals.metrics.lm_eval_files import read_results
from prefzoo.evals.metrics.measure import write_samples


def show_results(paths: Sequence[Path], base: str | None, out: Path) -> None:
    """Every model against the baseline: `base` by its name, else the first that is found."""
    found = read_results(paths)
    first = base or next(iter(found))
    if first not in found:
        raise UserError(
            f"--base {first}: no results of that model{did_you_mean(first, list(found))}; there are {', '.join(found)}"
        )
    clash = [n for n in found if n == leaderboard.BASE and n != first]
    if clash:
        raise UserError(f"{clash[0]}: a model named like the baseline's row; name it by --base, or rename its folder")
    numbers = {leaderboard.BASE: found[first], **{n: m for n, m in found.items() if n != first}}
    console = Console(emoji=False)
    console.print(f"{leaderboard.BASE}: {first}", markup=False, highlight=False, soft_wrap=True)
    for name, m in numbers.items():
        write_samples(out / name, m)
    board = leaderboard.build(numbers, {})
    board.write(out)
    board.render(console)
    console.print(f"\nEverything is in {out}", soft_wrap=True)
