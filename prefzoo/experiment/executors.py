"""Run stages one after the other in this process, or on Ray. Neither changes a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prefzoo.errors import UserError
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.round_views import check_rounds_data
from prefzoo.experiment.stages.frontier import measure_frontier
from prefzoo.experiment.stages.measure import measure_models
from prefzoo.experiment.stages.reference import score_references
from prefzoo.experiment.stages.sample import sample_rounds
from prefzoo.experiment.stages.stage import FRONTIER, MEASURE, REFERENCE, SAMPLE, TRAIN, Result, Stage
from prefzoo.experiment.stages.train import train_trials
from prefzoo.runtime.distributed import process_state

LOCAL, RAY = "local", "ray"


@dataclass(frozen=True)
class Resources:
    """The place where stages run, and the resources of each.

    Attributes:
        on: `local`, `ray` (the cluster of $RAY_ADDRESS, else one started on this machine), or `ray://host:port`.
        gpus: per stage; below 1, several stages share one. None: 1 where Ray sees any.
        cpus: per stage, also the number of its threads.
        launch: an Accelerate profile that trainings start under, for several processes each.
    """

    on: str = LOCAL
    gpus: float | None = None
    cpus: int = 1
    launch: Path | None = None

    @property
    def several_processes(self) -> bool:
        """Whether each training is started by `accelerate launch`."""
        return self.launch is not None or (self.gpus or 0) > 1

    def check(self) -> None:
        """Raise UserError if there is no such executor or it cannot do what is asked."""
        if self.gpus is not None and self.gpus > 1 and self.gpus % 1:
            raise UserError(f"--gpus {self.gpus}: above 1, GPUs are whole; give {self.gpus:.0f}")
        if self.launch is not None and not self.launch.is_file():
            raise UserError(f"--launch {self.launch}: no such file; recipes/accelerate has profiles")
        if self.on not in (LOCAL, RAY) and not self.on.startswith("ray://"):
            raise UserError(f"--on {self.on}: no such executor; give local, ray, or ray://host:10001")
        if self.on != LOCAL and process_state().num_processes > 1:
            raise UserError(f"--on {self.on}: Ray starts the processes; leave out accelerate launch, see --launch")


class Executor(Protocol):
    """Runs stages that do not depend on each other.

    Attributes:
        device: the type of device that trainings run on.
        processes: how many processes each training has.
        slots: how many stages run at the same time.
    """

    device: str
    processes: int
    slots: int

    def run(self, stages: Sequence[Stage]) -> dict[str, Result]:
        """Run the stages, and return how each trial's ended, by its name."""


class InOrder:
    """One stage after the other, in this process, or in all processes that `accelerate launch` started."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.slots = experiment, 1
        self.device, self.processes = process_state().device.type, process_state().num_processes

    def run(self, stages: Sequence[Stage]) -> dict[str, Result]:
        """Run the stages, and return how each trial's ended, by its name."""
        results: dict[str, Result] = {}
        for stage in _joined(stages):
            results |= run_stage(self.experiment, stage)
        return results


def _joined(stages: Sequence[Stage]) -> list[Stage]:
    """Return one stage for all models that are measured: several processes then measure some of them each."""
    joined: list[Stage] = []
    for stage in stages:
        if joined and stage.kind in (MEASURE, FRONTIER) and joined[-1].kind == stage.kind:
            joined[-1] = Stage(stage.kind, (*joined[-1].trials, *stage.trials))
        else:
            joined.append(stage)
    return joined


def run_stage(experiment: Experiment, stage: Stage) -> dict[str, Result]:
    """Run one stage in this process; every executor ends up here.

    Args:
        experiment: opened in this process.
        stage: what to do.

    Returns:
        The results, by the trial's name (of REFERENCE: by the kind's).
    """
    if stage.kind == SAMPLE:
        return sample_rounds(experiment, stage.trials)
    if stage.kind == TRAIN:
        own = check_rounds_data(experiment, experiment.trials[stage.trials[0]])
        return train_trials(own, stage.trials, stage.until)
    if stage.kind == MEASURE:
        return measure_models(experiment, stage.trials)
    if stage.kind == FRONTIER:
        return measure_frontier(experiment, stage.trials)
    assert stage.kind == REFERENCE, stage
    return score_references(experiment)
