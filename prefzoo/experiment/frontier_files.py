"""Where the points of a frontier and the snapshots that they are measured on lie, and which points are missing."""

from __future__ import annotations

from pathlib import Path

from prefzoo.experiment.context import Experiment
from prefzoo.runtime.run_folders import BASE


def snapshots_folder(experiment: Experiment, name: str) -> Path:
    """Return the folder of a trial's snapshots, which is removed when all its points are measured."""
    return experiment.folder / name / "snapshots"


def point_file(experiment: Experiment, name: str, step: int) -> Path:
    """Return the file of a point of the frontier.

    Args:
        experiment: what the point is of.
        name: a trial, or the base.
        step: of the trial's training; 0 for the base.

    Returns:
        Its path, whether or not the point is measured.
    """
    return experiment.folder / name / "frontier" / f"step-{step:08d}.json"


def points_missing(experiment: Experiment, name: str) -> int:
    """Return how many snapshots of a trained trial, or of the base, have no point yet. Keys are not compared."""
    if name == BASE:
        return int(not point_file(experiment, BASE, 0).is_file())
    taken = snapshots_folder(experiment, name).glob("step-????????")
    return sum(not point_file(experiment, name, int(path.name.removeprefix("step-"))).is_file() for path in taken)
