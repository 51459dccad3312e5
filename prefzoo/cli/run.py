"""`prefzoo run`: read its options, and print its results."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefzoo.cli.errors import PARTLY_FAILED
from prefzoo.cli.options import FILE, QUIET, RECIPE, RESULTS, SET, read_recipe
from prefzoo.errors import UserError

if TYPE_CHECKING:
    from prefzoo.experiment.request import Request
    from prefzoo.recipe.load import Recipe


@dataclass(frozen=True)
class Words:
    """The options of `prefzoo run` as they were given."""

    fresh: bool
    replace: bool
    save_every: float
    retry_failed: bool
    quiet: bool
    on: str
    gpus: float | None
    cpus: int
    launch: Path | None
    emit: str | None
    stage: str | None

    @property
    def are_plain(self) -> bool:
        """Whether they ask for an ordinary run in this process."""
        others = (self.fresh, self.retry_failed, self.on != "local", self.gpus, self.cpus > 1, self.launch)
        return not any((*others, self.emit, self.stage)) and os.environ.get("WORLD_SIZE", "1") == "1"

    def check(self) -> None:
        """Raise UserError for options that would be ignored beside others."""
        alone = "--emit" if self.emit else "--stage" if self.stage else ""
        others = {"--fresh": self.fresh, "--retry-failed": self.retry_failed, "--on": self.on != "local"}
        others |= {"--stage": bool(self.emit and self.stage)}
        ignored = [option for option, given in others.items() if alone and given]
        if ignored:
            raise UserError(f"{', '.join(ignored)}: has no effect with {alone}; leave it out")
        elsewhere = {"--gpus": self.gpus is not None, "--cpus": self.cpus > 1, "--launch": self.launch is not None}
        ignored = [option for option, given in elsewhere.items() if given and self.on == "local" and not self.emit]
        if ignored:
            raise UserError(f"{', '.join(ignored)}: is for stages on Ray or SLURM; add --on ray or --emit slurm")


@click.command("run")
@RECIPE
@SET
@RESULTS
@click.option("--replace", is_flag=True, help="Overwrite earlier results of other settings instead of archiving them.")
@click.option("--fresh", is_flag=True, help="Train everything again, even finished or interrupted trainings.")
@click.option(
    "--save-every", type=click.FloatRange(0), default=300, show_default=True, metavar="SECONDS",
    help="Time between checkpoints of a training; 0: after every step.",
)  # fmt: skip
@click.option("--on", default="local", show_default=True, metavar="EXECUTOR", help="local, ray, or ray://host:port.")
@click.option("--gpus", type=click.FloatRange(0), help="GPUs of each stage on Ray or SLURM; 0.5: two stages share one.")
@click.option("--cpus", type=click.IntRange(1), default=1, show_default=True, help="CPUs of each such stage.")
@click.option("--launch", type=FILE, help="An Accelerate profile for trainings on Ray or SLURM with several GPUs each.")
@click.option("--emit", type=click.Choice(["slurm"]), help="Write the scripts of a job array; run nothing.")
@click.option(
    "--stage", metavar="KIND:TRIAL", help="Run only one stage, like train:3; the scripts of a job array use it."
)
@click.option("--retry-failed", is_flag=True, help="Train failed variants again with the same settings.")
@QUIET
@click.pass_context
def command(
    context: click.Context, /, recipe: Path, overrides: tuple[str, ...], results: Path, **options: Any
) -> None:  # fmt: skip
    """Train, evaluate and rank the variants of RECIPE.

    The base is evaluated too.

    However a run ended, the same command resumes it: finished results are reused, and a training resumes from its last
    checkpoint, which SIGTERM and Ctrl-C write first.

    Before anything is written, the run lists variants that it reuses, resumes or trains again (with the settings that
    changed), and leftovers in its folder. If results of other settings would be lost, the folder is first archived
    beside itself as NAME@DATE, which `prefzoo leaderboard` shows.

    A variant whose loss becomes NaN or infinite is stopped (failed.json gives the reason), and the others continue;
    the exit code is then 3.
    """
    if begin(recipe, overrides, results, Words(**options)):
        context.exit(PARTLY_FAILED)


def begin(recipe: Path, overrides: Sequence[str], results: Path, words: Words) -> bool:
    """Run the recipe, or one stage of it, or write its scripts.

    Args:
        recipe: the recipe's file.
        overrides: `a.b=value` on top of it.
        results: the folder in which the run's folder is made.
        words: the other options.

    Returns:
        Whether a variant, the judge or a metric failed; of several processes the main one returns it.
    """
    from prefzoo.experiment.request import Options, Request

    request = Request(str(recipe), tuple(overrides), str(results), words.save_every, words.replace)
    if words.are_plain and _nothing_to_do(request, quiet=words.quiet):
        return False
    loaded = _read_recipe(request, quiet=words.quiet)
    from prefzoo.experiment import pipeline
    from prefzoo.experiment.executors import Resources
    from prefzoo.runtime.distributed import process_state

    resources = Resources(words.on, words.gpus, words.cpus, words.launch)
    resources.check()
    words.check()
    if words.launch is not None:
        resources = replace(resources, launch=words.launch.absolute())  # a worker of a cluster is elsewhere
    options = Options(words.fresh, words.retry_failed, words.quiet)
    if words.emit:
        from prefzoo.experiment.slurm import write_scripts

        written = write_scripts(request, resources, loaded)
        click.echo(f"{written.trials} trainings, one array task each. Submit them with")
        click.echo(f"  {shlex.quote(str(written.submit))}")
        click.echo("The results folder and the cache (PREFZOO_CACHE) must be in storage that every node can read.")
        return False
    if words.stage:
        for name, result in pipeline.run_one_stage(request, words.stage, options, loaded).items():
            click.echo(f"{words.stage} ({name}): {result}")
        return False
    outcome = pipeline.run(request, options, resources, loaded)
    # only one process ends with an error: a launcher that sees an error stops the others
    return bool(outcome.failed or outcome.faults) and process_state().is_main_process


def _read_recipe(request: Request, *, quiet: bool) -> Recipe:
    """Read the recipe, and report its faults or its contents before the slow imports of torch and others.

    Raises:
        UserError: the recipe is wrong.
    """
    recipe = read_recipe(Path(request.recipe), request.overrides)
    if not quiet and os.environ.get("RANK", "0") == "0":
        variants = f"{len(recipe.variants)} variant{'s' * (len(recipe.variants) > 1)}"
        click.echo(f"{request.recipe}: {variants} of {recipe.model}; loading libraries")
    return recipe


def _nothing_to_do(request: Request, *, quiet: bool) -> bool:
    """Return whether the same command has finished the run and nothing has changed: then its board is printed again."""
    from rich.console import Console

    from prefzoo.experiment.unchanged import read_finished_run

    finished = read_finished_run(request)
    if finished is None:
        return False
    if not quiet:
        for line in (*finished.lines, "nothing to do: everything is trained, measured and judged with these settings"):
            click.echo(line)
    click.echo(finished.board(Console().width), nl=False)
    if not quiet:
        click.echo(f"\nEverything is in {finished.folder}; to look at it: {finished.folder / 'report.html'}")
    return True
