"""A stage of a run, and its result. Both are plain values that can be sent to another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefzoo.errors import UserError
from prefzoo.runtime.run_folders import BASE

REFERENCE, SAMPLE, TRAIN, MEASURE, FRONTIER = "reference", "sample", "train", "measure", "frontier"


@dataclass(frozen=True)
class Stage:
    """A piece of work that any process can do alone, given the run's folder and the cache.

    Attributes:
        kind: REFERENCE (log-probs that trainings share), SAMPLE (the pairs of a round), TRAIN, MEASURE or FRONTIER.
        trials: the trials' names, or `base`; several names in a TRAIN stage are trained side by side.
        until: the number of optimiser steps after which a training pauses; None: it runs to its end.
    """

    kind: str
    trials: tuple[str, ...] = ()
    until: int | None = None

    def __str__(self) -> str:
        pause = f"@{self.until}" if self.until else ""
        return f"{self.kind}:{','.join(self.trials)}{pause}" if self.trials else self.kind


@dataclass(frozen=True)
class Done:
    """The stage's output is on disk. `kept`: it was on disk before."""

    kept: bool = False

    def __str__(self) -> str:
        return "reused" if self.kept else "done"


@dataclass(frozen=True)
class Failed:
    """A trial cannot be trained to its end. `step`: the optimiser step at which it ended, from 1; 0 where unknown."""

    reason: str
    step: int = 0

    def __str__(self) -> str:
        return f"failed: {self.reason}"


@dataclass(frozen=True)
class Skipped:
    """The recipe does not ask for this stage, or its inputs are missing."""

    reason: str

    def __str__(self) -> str:
        return f"skipped: {self.reason}"


Result = Done | Failed | Skipped


def parse(text: str, trials: Sequence[str]) -> Stage:
    """Return the stage that a text like `train:3`, `train:dpo-beta0.1-s0` or `reference` names.

    Args:
        text: the option's value.
        trials: the names of all trials, in order.

    Raises:
        UserError: there is no such stage.
    """
    kind, _, name = text.partition(":")
    if name.isdigit() and int(name) < len(trials):
        name = trials[int(name)]
    one_trial = kind in (TRAIN, MEASURE) and name in trials
    if not one_trial and (kind, name) not in ((REFERENCE, ""), (MEASURE, BASE)):
        raise UserError(
            f"--stage {text}: no such stage; there are reference, train:N and measure:N (N from 0 to "
            f"{len(trials) - 1}, or a trial's name) and measure:base"
        )
    return Stage(kind, (name,) if name else ())
