"""Copies of a model at some steps of its training, on which a frontier of reward against KL is measured."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one training.

    Attributes:
        folder: where they go, each in a folder of its own.
        points: one more than there are snapshots; the last point is the checkpoint at the end of the training.
        save: writes a model into a folder; called by all processes.
    """

    folder: Path
    points: int
    save: Callable[[Any, Path], None]

    def steps(self, total: int) -> list[int]:
        """Return the steps, of `total`, after which one is taken, evenly apart; the last step is not among them."""
        marks = {round(total * i / self.points) for i in range(1, self.points)} if self.points else set()
        return sorted(marks - {0, total})

    def due(self, step: int, total: int) -> bool:
        """Return whether one is to be taken after `step`, and was not before an interruption."""
        return step in self.steps(total) and not self.path(step).is_dir()

    def take(self, model: Any, step: int) -> None:
        """Save the model as it is after `step`."""
        self.save(model, self.path(step))

    def path(self, step: int) -> Path:
        """Return the folder of a step's snapshot."""
        return self.folder / f"step-{step:08d}"

    def taken(self) -> dict[int, Path]:
        """Return the folders of the snapshots that are there, by step."""
        folders = [path for path in sorted(self.folder.glob("step-????????")) if path.is_dir()]
        return {int(path.name.removeprefix("step-")): path for path in folders}

    def remove(self) -> None:
        """Remove all snapshots."""
        shutil.rmtree(self.folder, ignore_errors=True)
