"""A request to `prefzoo run`, as plain values that can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

SAVE_EVERY = 300.0  # seconds


@dataclass(frozen=True)
class Request:
    """The recipe of a run, and where its results go.

    Attributes:
        recipe: path of the recipe's file.
        overrides: `a.b=value`, as `--set` takes them.
        results: path of the folder that holds the run's folder.
        save_every: seconds between two checkpoints of a training; 0: one after every step.
        replace: overwrite results of other settings instead of archiving them.
    """

    recipe: str
    overrides: tuple[str, ...]
    results: str
    save_every: float = SAVE_EVERY
    replace: bool = False

    def absolute(self) -> Request:
        """Return the request with absolute paths, for a process that starts in another folder."""
        recipe, results = (str(Path(path).resolve()) for path in (self.recipe, self.results))
        return replace(self, recipe=recipe, results=results)

    def folder(self, name: str) -> Path:
        """Return the folder of the run whose recipe has this name."""
        return Path(self.results) / name

    def words(self) -> list[str]:
        """Return the `prefzoo run` command of this request, without the `python -m` before it."""
        words = ["prefzoo", "run", self.recipe, "--results", self.results, "--save-every", f"{self.save_every:g}"]
        words += ["--replace"] if self.replace else []
        return words + [word for text in self.overrides for word in ("--set", text)]


@dataclass(frozen=True)
class Options:
    """How a run starts.

    Attributes:
        fresh: train everything again, even finished or interrupted trainings.
        retry_failed: train failed variants again with the same settings.
        quiet: print results only, no progress.
        silent: print no results either.
    """

    fresh: bool = False
    retry_failed: bool = False
    quiet: bool = False
    silent: bool = False
