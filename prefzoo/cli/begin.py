"""`prefzoo run`: the words of its options, and what is printed of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from prefzoo.errors import UserError

if TYPE_CHECKING:
    from prefzoo.experiment.request import Request


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
            raise UserError(f"{', '.join(ignored)}: has no meaning beside {alone}; leave it out")
        elsewhere = {"--gpus": self.gpus is not None, "--cpus": self.cpus > 1, "--launch": self.launch is not None}
        ignored = [option for option, given in elsewhere.items() if given and self.on == "local" and not self.emit]
        if ignored:
            raise UserError(f"{', '.join(ignored)}: is for stages on Ray or SLURM; add --on ray or --emit slurm")


def begin(recipe: Path, overrides: Sequence[str], results: Path, words: Words) -> bool:
    """Run the recipe, or one stage of it, or write its scripts.

    Args:
        recipe: the recipe's file.
        overrides: `a.b=value` on top of it.
        results: the folder in which the run's folder is made.
        words: the other options.

    Returns:
        Whether a variant failed, or the judge or a metric; of several processes the main one returns it.
    """
    from prefzoo.experiment.request import Options, Request

    request = Request(str(recipe), tuple(overrides), str(results), words.save_every, words.replace)
    if words.are_plain and _nothing_to_do(request, quiet=words.quiet):
        return False
    _read_recipe(request, quiet=words.quiet)
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

        written = write_scripts(request, resources)
        click.echo(f"{written.trials} trainings, one array task each. Hand them in with")
        click.echo(f"  {shlex.quote(str(written.submit))}")
        click.echo("The results folder and the cache (PREFZOO_CACHE) must lie where every node can read them.")
        return False
    if words.stage:
        for name, result in pipeline.run_one_stage(request, words.stage, options).items():
            click.echo(f"{words.stage} ({name}): {result}")
        return False
    outcome = pipeline.run(request, options, resources)
    # of several processes one ends with an error: a launcher that sees the first one stops the others
    return bool(outcome.failed or outcome.faults) and process_state().is_main_process


def _read_recipe(request: Request, *, quiet: bool) -> None:
    """Report the recipe's faults, or what it holds, in the seconds before torch and the models' library are imported.

    Raises:
        UserError: the recipe is wrong.
    """
    from prefzoo.recipe import load

    recipe = load.load(Path(request.recipe), request.overrides)
    if not quiet and os.environ.get("RANK", "0") == "0":
        variants = f"{len(recipe.variants)} variant{'s' * (len(recipe.variants) > 1)}"
        text = f"{request.recipe}: {variants} of {recipe.model}; loading libraries"
        Console(emoji=False).print(text, soft_wrap=True, markup=False, highlight=False)


def _nothing_to_do(request: Request, *, quiet: bool) -> bool:
    """Whether the same command has finished the run and nothing has changed: then its board is printed again."""
    from prefzoo.experiment.unchanged import read_finished_run

    finished = read_finished_run(request)
    if finished is None:
        return False
    console = Console(emoji=False)
    if not quiet:
        for line in finished.lines:
            console.print(line, soft_wrap=True, markup=False, highlight=False)
        console.print("nothing to do: all is trained, measured and judged with these settings", soft_wrap=True)
    click.echo(finished.board(console.width), nl=False)
    if not quiet:
        page = finished.folder / "report.html"
        console.print(f"\nEverything is in {finished.folder}; to look at it: {page}", soft_wrap=True)
    return True
