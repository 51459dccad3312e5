"""Estimate the disk that a run takes: weights that stay by `keep`, and checkpoints and snapshots meanwhile."""

from __future__ import annotations

from pathlib import Path

from prefzoo.experiment.context import Experiment
from prefzoo.experiment.plan_types import Disk, free_disk
from prefzoo.experiment.works import Trained
from prefzoo.training.memory_model import FP32, model_shape

MOMENTS = 2  # of AdamW, as large as what is trained


def disk_of(experiment: Experiment, todo: Trained, size: int) -> Disk:
    """Estimate the disk that a run takes.

    Args:
        experiment: the run's.
        todo: the trainings that are left.
        size: parameters of the model.

    Returns:
        The bytes.
    """
    left = {name: _weights(experiment, name, size) for name in experiment.trials if name in todo.left}
    there = {
        name: _stored(experiment.folder / name / "checkpoint") for name in experiment.trials if name not in todo.left
    }
    adapters = {n for n, trial in experiment.trials.items() if trial.variant.train.lora is not None}
    every = left | there
    largest = max(left.values(), default=0.0)
    stays = {
        "all": sum(every.values()),
        "adapters": sum(v for n, v in every.items() if n in adapters),
        "best": max(every.values(), default=0.0) * len(experiment.recipe.seeds or [0]),
        "none": 0.0,
    }
    snapshots = max(0, experiment.frontier_points - 1) * sum(left.values())
    resuming = 2 * (1 + MOMENTS) * largest  # a new checkpoint is written before the old one goes
    return Disk(stays, experiment.recipe.keep, sum(left.values()) + snapshots + resuming, free_disk(experiment.folder))


def _weights(experiment: Experiment, name: str, size: int) -> float:
    """Return the bytes of a trial's checkpoint: fp32 weights, or an adapter's."""
    lora = experiment.trials[name].variant.train.lora
    if lora is None:
        return float(FP32 * size)
    try:
        return float(FP32 * model_shape(experiment.base.config).adapter(lora.rank))
    except (AttributeError, TypeError):  # of an architecture whose widths are not known
        return 0.02 * lora.rank / 16 * FP32 * size


def _stored(folder: Path) -> float:
    return float(sum(path.stat().st_size for path in folder.glob("*.safetensors")))
