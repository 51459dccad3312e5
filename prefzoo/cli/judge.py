"""`prefzoo judge`: measure how far a judge can be trusted."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefzoo.cli import complete
from prefzoo.cli.errors import PARTLY_FAILED
from prefzoo.cli.options import FILE, QUIET, RECIPE_FILE, SET, read_recipe
from prefzoo.errors import UserError

if TYPE_CHECKING:
    from prefzoo.evals.judges.protocol import Judge
    from prefzoo.evals.metrics.best_of import BestOf
    from prefzoo.evals.metrics.judge_quality import Quality
    from prefzoo.evals.stats.intervals import Estimate
    from prefzoo.recipe.load import Recipe

NUMBERS = (
    ("agreement", "agrees with the label"),
    ("flips", "winner flips when answers swap"),
    ("first_position", "first position wins"),
    ("longer_wins", "longer answer wins"),
    ("longer_is_better", "longer answer is the labelled one"),
)

NOT_RATED = (
    "this judge compares answers, so win rates grade them; in RewardBench 2 a judge rates each answer by itself, so "
    "this is not its score"
)
PARTS = {
    "ref_accuracy": "one right answer", "tied_accuracy": "several right answers",
    "correctness_preferred": "right above wrong by more than right answers differ",
    "correctness_preferred_hard": "the same with either prompt's margin", "margin": "by how much",
}  # fmt: skip


@click.command("judge")
@click.argument("recipe", type=RECIPE_FILE, shell_complete=complete.recipes, required=False)
@SET
@click.option(
    "--judge", "judged", metavar="JUDGE", help="A judge to use instead of the recipe's, as evals.judge; also YAML."
)
@click.option("--pairs", metavar="FILE", help="Labelled pairs; by default the recipe's data.eval.")
@click.option("--best-of", metavar="FILE", help="Right and wrong answers, in RewardBench 2's columns.")
@click.option("--out", type=FILE, help="Write the numbers to this file, as JSON.")
@QUIET
@click.pass_context
def command(
    context: click.Context, recipe: Path | None, overrides: tuple[str, ...], judged: str | None, pairs: str | None,
    best_of: str | None, out: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Measure how far RECIPE's judge, or another, can be trusted.

    It measures agreement with labelled pairs, flips when answers swap, and wins of the longer answer. With --best-of it
    measures how often the right answer is rated above the wrong ones. A policy can judge by its implicit reward:
    --judge '{kind: implicit, model: results/run/dpo/checkpoint}'.
    """
    _check_words(recipe, overrides, judged, pairs, best_of)
    loaded = None if recipe is None else read_recipe(recipe, overrides)
    from prefzoo.runtime.paths import OUT_CURE, check_writable
    from prefzoo.runtime.run_folders import write_json

    if out is not None:
        check_writable(out.parent, "--out", OUT_CURE)
    asked = _Asked(recipe, loaded, judged, quiet)
    result: Quality | BestOf
    if best_of is None:
        result = _on_pairs(asked, pairs)
        click.echo(render(result))
    else:
        result = _on_best_of(asked, best_of)
        _print(result)
    if out is not None:
        write_json(out, asdict(result))
    if result.coverage.withheld:
        context.exit(PARTLY_FAILED)


@dataclass(frozen=True)
class _Asked:
    """The command line's settings of the judge."""

    path: Path | None
    recipe: Recipe | None
    judged: str | None
    quiet: bool

    def judge(self) -> Judge:
        """Load the judge.

        Raises:
            UserError: It cannot be loaded.
        """
        from prefzoo.evals.judges import load_judge
        from prefzoo.experiment.stages.judge import judge_settings
        from prefzoo.runtime.paths import paths_from_here

        if self.judged is not None:
            with paths_from_here():
                return load_judge(judge_settings(self.judged), Path.cwd())
        assert self.recipe is not None  # noqa: S101 - checked before
        return load_judge(self.recipe.evals.judge, self.recipe.folder)


def _check_words(
    recipe: Path | None, overrides: tuple[str, ...], judged: str | None, pairs: str | None, best_of: str | None
) -> None:
    """Raise UserError for options that do not go together."""
    if recipe is None and judged is None:
        raise UserError("no judge; name a recipe, or a judge by --judge")
    if recipe is None and overrides:
        raise UserError("--set: there is no recipe to override; write the setting into --judge")
    if pairs is not None and best_of is not None:
        raise UserError("--pairs, --best-of: the judge is measured on one of them; give one")
    if recipe is None and pairs is None and best_of is None:
        raise UserError("--judge: nothing to measure it on; add --pairs FILE of labelled pairs, or --best-of FILE")


def _on_pairs(asked: _Asked, pairs: str | None) -> Quality:
    """Measure the judge on labelled pairs; print its expected cost, and the progress.

    Raises:
        UserError: There are no labelled pairs, or the judge cannot judge.
    """
    from rich.console import Console

    from prefzoo.data.reading import DataSource
    from prefzoo.evals.judges.protocol import Comparison
    from prefzoo.evals.metrics.judge_quality import quality
    from prefzoo.experiment.data import source_of
    from prefzoo.experiment.labelled_pairs import read_labelled
    from prefzoo.runtime.paths import paths_from_here
    from prefzoo.runtime.progress import stage

    recipe = asked.recipe
    named = pairs or (recipe.data.eval if recipe is not None else None)
    if named is None:
        raise UserError(f"{asked.path}: data.eval is not set; name labelled pairs by --pairs FILE")
    if pairs is None and recipe is not None:
        labelled = read_labelled(source_of(recipe, named), recipe.folder)
    else:
        with paths_from_here():
            labelled = read_labelled(DataSource(str(named)), Path.cwd())
    judge = asked.judge()
    forecast = judge.forecast([Comparison(p.row, p.chosen, p.rejected) for p in labelled.pairs if not p.tie])
    if forecast:
        click.echo(forecast)
    count = len(labelled.pairs) - labelled.ties
    with stage(f"judging {count} labelled pairs", "calls", Console(quiet=asked.quiet)) as report:
        measured = quality(judge, labelled.pairs, lambda done, total: report(done, total, ""))
    return replace(measured, left_out=labelled.left_out)


def _on_best_of(asked: _Asked, spec: str) -> BestOf:
    """Measure the judge on right and wrong answers; print its expected cost, and the progress.

    Raises:
        UserError: The file is wrong, or the judge cannot judge.
    """
    from rich.console import Console

    from prefzoo.evals.metrics.best_of import best_of, comparisons_of
    from prefzoo.experiment.best_of_file import read_best_of
    from prefzoo.runtime.paths import paths_from_here
    from prefzoo.runtime.progress import stage

    with paths_from_here():
        items = read_best_of(spec, Path.cwd())
    judge = asked.judge()
    if judge.needs_checks and any(not item.row.checks for item in items):
        raise UserError(
            f"--judge: {judge.name} scores only prompts with checks, and {spec} has none; choose another judge"
        )
    forecast = judge.forecast(comparisons_of(judge, items)) if not judge.scores_answers else ""
    if forecast:
        click.echo(forecast)
    with stage(f"judging answers to {len(items)} prompts", "calls", Console(quiet=asked.quiet)) as report:
        return best_of(judge, items, lambda done, total: report(done, total, ""))


def _print(measured: BestOf) -> None:
    """Print a row for each subset, and their mean."""
    from rich.console import Console
    from rich.table import Table

    prompt = f", prompt {measured.prompt_hash}" if measured.prompt_hash else ""
    click.echo(f"{measured.judge}{prompt}: best of right and wrong answers to {measured.coverage.asked} prompts")
    table = Table("subset", "score", "95% interval", "prompts", box=None)
    for name, score in (*measured.subsets.items(), ("mean of subsets", measured.average)):
        known = math.isfinite(score.value)
        interval = f"{100 * score.low:.1f} to {100 * score.high:.1f}" if known else "-"
        table.add_row(name, f"{100 * score.value:.1f}%" if known else "-", interval, str(score.n))
    Console(emoji=False, highlight=False, markup=False).print(table)
    if measured.parts:
        click.echo("ties: " + ", ".join(f"{PARTS[k]} {v:.3f}" for k, v in measured.parts.items() if math.isfinite(v)))
        if not measured.rated:
            click.echo(f"ties: {NOT_RATED}")
    if measured.coverage.missing:
        click.echo(measured.coverage.summary().replace("verdicts", "prompts"))


def render(measured: Quality) -> str:
    """Return a line for each number, with its interval and how many cases it is over."""
    prompt = f", prompt {measured.prompt_hash}" if measured.prompt_hash else ""
    lines = [f"{measured.judge}{prompt}: {measured.coverage.asked} labelled pairs; {measured.ties} verdicts are ties"]
    if measured.tied_labels:
        lines.append(f"  left out: {measured.tied_labels} labelled as ties, of which no verdict is right or wrong")
    lines += [f"  left out: {n}: {reason}" for reason, n in measured.left_out.items()]
    lines += [f"  {label}: {_cell(getattr(measured, field))}" for field, label in NUMBERS]
    return "\n".join(lines + ([measured.coverage.summary()] if measured.coverage.missing else []))


def _cell(e: Estimate) -> str:
    if not math.isfinite(e.value):
        return "-"
    return f"{100 * e.value:.1f}% [{100 * e.low:.1f}, {100 * e.high:.1f}] of {e.n}"
