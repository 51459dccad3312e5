"""`prefzoo run`: the words of its options, and what is printed of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from prefzoo.errors import UserError


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
        Whether a variant failed, or the judge or a metric.
    """
    from prefzoo.experiment import pipeline
    from prefzoo.experiment.executors import Resources
    from prefzoo.experiment.request import Options, Request

    resources = Resources(words.on, words.gpus, words.cpus, words.launch)
    resources.check()
    words.check()
    if words.launch is not None:
        resources = replace(resources, launch=words.launch.absolute())  # a worker of a cluster is elsewhere
    request = Request(str(recipe), tuple(overrides), str(results), words.save_every, words.replace)
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
    return bool(outcome.failed or outcome.faults)
