"""Group trials that train side by side in one pass, as `train.side_by_side` asks and the executor allows."""

from __future__ import annotations

from collections.abc import Sequence

from prefzoo.experiment.context import Experiment
from prefzoo.experiment.executors import Executor
from prefzoo.experiment.jobs import plain_job
from prefzoo.experiment.search import Trial
from prefzoo.experiment.stages.stage import TRAIN, Stage
from prefzoo.training.groups import group_trials


def train_stages(
    experiment: Experiment, trials: Sequence[Trial], executor: Executor, until: int | None = None
) -> list[Stage]:
    """Group trials that train side by side.

    Args:
        experiment: the run's.
        trials: what is to be trained; those that are trained already are grouped too, so that a run that goes on makes
            the same groups.
        executor: says how many processes a training has, and how many stages run at once.
        until: pause after so many optimiser steps.

    Returns:
        The stages that train them, a group of one or more trials each.
    """
    jobs = {t.name: plain_job(experiment, t) for t in trials}
    groups, notes = group_trials(jobs, executor.device, executor.processes)
    for note in notes:
        experiment.console.print(note, soft_wrap=True, markup=False)
    spread = [part for group in groups for part in _spread(experiment, group, len(trials), executor.slots)]
    return [Stage(TRAIN, tuple(group), until) for group in spread]


def _spread(experiment: Experiment, group: list[str], count: int, slots: int) -> list[list[str]]:
    """Split a group so that no slot stays empty; trials with `side_by_side: on` stay together."""
    if experiment.trials[group[0]].variant.train.side_by_side == "on":
        return [group]
    most = max(1, -(-count // slots))
    return [group[i : i + most] for i in range(0, len(group), most)]
