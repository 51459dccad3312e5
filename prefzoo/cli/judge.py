"""`prefzoo judge`: how far a recipe's judge can be trusted."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefzoo.cli.errors import PARTLY_FAILED
from prefzoo.cli.options import FILE, QUIET, RECIPE, SET, report_mistakes
from prefzoo.errors import UserError

if TYPE_CHECKING:
    from prefzoo.evals.metrics.judge_quality import Quality
    from prefzoo.evals.stats.intervals import Estimate

NUMBERS = (
    ("agreement", "agrees with the label"),
    ("flips", "winner flips when answers swap"),
    ("first_position", "first position wins"),
    ("longer_wins", "longer answer wins"),
    ("longer_is_better", "longer answer is the labelled one"),
)


@click.command("judge")
@RECIPE
@SET
@click.option("--pairs", metavar="FILE", help="Labelled pairs; by default the recipe's data.eval.")
@click.option("--out", type=FILE, help="Write the numbers to this file, as JSON.")
@QUIET
@click.pass_context
def command(
    context: click.Context, recipe: Path, overrides: tuple[str, ...], pairs: str | None, out: Path | None, quiet: bool
) -> None:  # fmt: skip
    """Measure how far RECIPE's judge can be trusted.

    It measures agreement with labelled pairs, flips when answers swap, and wins of the longer answer.
    """
    report_mistakes(recipe, overrides)
    from prefzoo.runtime.paths import OUT_CURE, check_writable
    from prefzoo.runtime.run_folders import write_json

    if out is not None:
        check_writable(out.parent, "--out", OUT_CURE)
    result = _measure(recipe, overrides, pairs, quiet=quiet)
    click.echo(render(result))
    if out is not None:
        write_json(out, asdict(result))
    if result.coverage.withheld:
        context.exit(PARTLY_FAILED)


def _measure(path: Path, overrides: tuple[str, ...], pairs: str | None, *, quiet: bool) -> Quality:
    """Measure the judge of a recipe on labelled pairs; print what it will cost, and the progress.

    Raises:
        UserError: There are no labelled pairs, or the judge cannot judge.
    """
    from rich.console import Console

    from prefzoo.data.reading import DataSource
    from prefzoo.evals.judges import load_judge
    from prefzoo.evals.judges.protocol import Comparison
    from prefzoo.evals.metrics.judge_quality import quality
    from prefzoo.experiment.data import source_of
    from prefzoo.experiment.labels import read_labelled
    from prefzoo.recipe import load as recipes
    from prefzoo.runtime.progress import stage

    recipe = recipes.load(path, overrides)
    named = pairs or recipe.data.eval
    if named is None:
        raise UserError(f"{path}: data.eval is not set; name labelled pairs by --pairs FILE")
    folder = Path.cwd() if pairs else recipe.folder
    labelled = read_labelled(DataSource(pairs) if pairs else source_of(recipe, named), folder)
    judge = load_judge(recipe.evals.judge, recipe.folder)
    forecast = judge.forecast([Comparison(p.row, p.chosen, p.rejected) for p in labelled])
    if forecast:
        click.echo(forecast)
    with stage(f"judging {len(labelled)} labelled pairs", "calls", Console(quiet=quiet)) as report:
        return quality(judge, labelled, lambda done, total: report(done, total, ""))


def render(measured: Quality) -> str:
    """Return a line for each number, with its interval and how many cases it is over."""
    prompt = f", prompt {measured.prompt_hash}" if measured.prompt_hash else ""
    lines = [f"{measured.judge}{prompt}: {measured.coverage.asked} labelled pairs, {measured.ties} ties"]
    lines += [f"  {label}: {_cell(getattr(measured, field))}" for field, label in NUMBERS]
    return "\n".join(lines + ([measured.coverage.summary()] if measured.coverage.missing else []))


def _cell(e: Estimate) -> str:
    if not math.isfinite(e.value):
        return "-"
    return f"{100 * e.value:.1f}% [{100 * e.low:.1f}, {100 * e.high:.1f}] of {e.n}"
