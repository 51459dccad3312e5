"""The disk that a run takes: weights that stay, checkpoints and snapshots meanwhile, and what `keep` would leave."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefzoo.experiment.context import Experiment
from prefzoo.experiment.works import Trained
from prefzoo.training.memory_model import FP32, model_shape

MOMENTS = 2  # of AdamW, as large as what is trained
LARGE, SHARE = 1e9, 0.2  # bytes, and share of what is free, from which on `keep` is worth a line
LESS = 0.9  # of what stays: so much less is worth naming
TINY = 1e6
EXACT = 10  # GB, up to which a decimal is shown


@dataclass(frozen=True)
class Disk:
    """Bytes that a run takes on disk.

    Attributes:
        stays: by each value of the recipe's `keep`, the weights that stay.
        keep: the recipe's.
        peak: at most, while it runs.
        free: what is free where the run's folder is.
    """

    stays: dict[str, float]
    keep: str
    peak: float
    free: float

    def lines(self) -> list[str]:
        """Return a line on what it takes, with cheaper values of `keep` where it is much, and a warning if too much."""
        stays = self.stays[self.keep]
        words = f"disk: {_gigabytes(stays)} of weights stay, {_gigabytes(self.peak)} at most while it runs"
        lines = [f"{words}; {_gigabytes(self.free)} are free"]
        cheaper = [f"keep: {k} leaves {_gigabytes(v)}" for k, v in self.stays.items() if 0 < v < LESS * stays]
        if stays > min(LARGE, SHARE * self.free):
            lines.append(f"  {', '.join([*cheaper, 'keep: none leaves nothing'])}")
        return lines

    def warnings(self) -> list[str]:
        """Return a warning where the disk is too small."""
        if self.peak <= self.free:
            return []
        return [
            f"disk: {_gigabytes(self.peak)} are needed at most and {_gigabytes(self.free)} are free; free some, name "
            "another folder with --results, lower evals.frontier, or train adapters (train.lora)"
        ]


def disk_of(experiment: Experiment, todo: Trained, size: int) -> Disk:
    """Work out what a run takes on disk.

    Args:
        experiment: what is run.
        todo: what is left to train.
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
    return Disk(stays, experiment.recipe.keep, sum(left.values()) + snapshots + resuming, _free(experiment.folder))


def _weights(experiment: Experiment, name: str, size: int) -> float:
    """Return the bytes of a trial's checkpoint: fp32 weights, or an adapter's."""
    lora = experiment.trials[name].variant.train.lora
    if lora is None:
        return float(FP32 * size)
    try:
        return float(FP32 * model_shape(experiment.base.model.config).adapter(lora.rank))
    except (AttributeError, TypeError):  # of an architecture whose widths are not known
        return 0.02 * lora.rank / 16 * FP32 * size


def _stored(folder: Path) -> float:
    return float(sum(path.stat().st_size for path in folder.glob("*.safetensors")))


def _free(folder: Path) -> float:
    """Return the bytes that are free where a folder is, or will be."""
    existing: Any = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return float(shutil.disk_usage(existing).free)


def _gigabytes(count: float) -> str:
    if count < LARGE / 10:
        return f"{count / 1e6:.0f} MB" if count == 0 or count >= TINY else "under 1 MB"
    return f"{count / 1e9:.1f} GB" if count < EXACT * 1e9 else f"{count / 1e9:,.0f} GB"
