"""`prefzoo judge`: how far a recipe's judge can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console

from prefzoo.data.reading import DataSource
from prefzoo.errors import UserError
from prefzoo.evals.judges import load_judge
from prefzoo.evals.judges.protocol import Comparison
from prefzoo.evals.metrics.judge_quality import Quality, quality
from prefzoo.evals.stats.intervals import Estimate
from prefzoo.experiment.data import source_of
from prefzoo.experiment.labels import read_labelled
from prefzoo.recipe import load as recipes
from prefzoo.runtime import run_folders
from prefzoo.runtime.paths import OUT_CURE, check_writable
from prefzoo.runtime.progress import stage

NUMBERS = (
    ("agreement", "agrees with the label"),
    ("flips", "winner flips when answers swap"),
    ("first_position", "first position wins"),
    ("longer_wins", "longer answer wins"),
    ("longer_is_better", "longer answer is the labelled one"),
)


def show_judge(
    path: Path, overrides: Sequence[str], pairs: str | None, out: Path | None, *, quiet: bool = False
) -> bool:
    """Measure the judge of a recipe on labelled pairs, and print the numbers.

    Args:
        path: the recipe.
        overrides: of its fields, as `--set` has them.
        pairs: file of labelled pairs; by default the recipe's `data.eval`.
        out: file for the numbers as JSON; None for none.
        quiet: whether to show no progress.

    Returns:
        Whether so many verdicts are missing that the numbers say nothing.

    Raises:
        UserError: there are no labelled pairs, or the judge cannot judge.
    """
    if out is not None:
        check_writable(out.parent, "--out", OUT_CURE)
    recipe, console = recipes.load(path, overrides), Console(soft_wrap=True, emoji=False)  # a judge's name has colons
    named = pairs or recipe.data.eval
    if named is None:
        raise UserError(f"{path}: data.eval is not set; name labelled pairs by --pairs FILE")
    folder = Path.cwd() if pairs else recipe.folder
    labelled = read_labelled(DataSource(pairs) if pairs else source_of(recipe, named), folder)
    judge = load_judge(recipe.evals.judge, recipe.folder)
    forecast = judge.forecast([Comparison(p.row, p.chosen, p.rejected) for p in labelled])
    if forecast:
        console.print(forecast, markup=False)
    with stage(f"judging {len(labelled)} labelled pairs", "calls", Console(quiet=quiet)) as report:
        result = quality(judge, labelled, lambda done, total: report(done, total, ""))
    console.print(render(result), markup=False, highlight=False)
    if out:
        run_folders.write_json(out, asdict(result))
    return result.coverage.withheld


def render(measured: Quality) -> str:
    """Return a line for each number, with its interval and how many cases it is over."""
    prompt = f", prompt {measured.prompt_hash}" if measured.prompt_hash else ""
    lines = [f"{measured.judge}{prompt}: {measured.coverage.asked} labelled pairs, {measured.ties} ties"]
    lines += [f"  {label}: {_cell(getattr(measured, field))}" for field, label in NUMBERS]
    return "\n".join(lines + ([measured.coverage.summary()] if measured.coverage.missing else []))


def _cell(e: Estimate) -> str:
    if not np.isfinite(e.value):
        return "-"
    return f"{100 * e.value:.1f}% [{100 * e.low:.1f}, {100 * e.high:.1f}] of {e.n}"
