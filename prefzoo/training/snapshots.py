"""Copies of a model at some steps of its training: what a frontier of reward against KL is measured on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Snapshots:
    """Where they go, and how many; `save(model, folder)` writes one, called by all processes."""

    folder: Path
    points: int
    save: Callable[[Any, Path], None]

    def at(self, steps: int) -> list[int]:
        """The steps after which one is taken, evenly apart; the last is the checkpoint itself, and not among them."""
        found = {round(steps * i / self.points) for i in range(1, self.points)} if self.points else set()
        return sorted(found - {0, steps})

    def take(self, model: Any, step: int, steps: int) -> None:
        """One, if it is due and not there from before an interruption."""
        if step in self.at(steps) and not self.of(step).is_dir():
            self.save(model, self.of(step))

    def of(self, step: int) -> Path:
        """A step's folder."""
        return self.folder / f"step-{step:08d}"

    def found(self) -> dict[int, Path]:
        """What is there, by step."""
        return {int(p.name.removeprefix("step-")): p for p in sorted(self.folder.glob("step-????????")) if p.is_dir()}

    def remove(self) -> None:
        """All of them."""
        shutil.rmtree(self.folder, ignore_errors=True)
