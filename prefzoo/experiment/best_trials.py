"""Train all trials, and choose each variant's setting by the validation pairs, before the test split is measured.

Without grids there is nothing to choose: every variant has one setting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prefzoo.errors import UserError
from prefzoo.experiment import search
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.executors import Executor
from prefzoo.experiment.groups import train_stages
from prefzoo.experiment.search import Score, Trial
from prefzoo.experiment.stages.validate import validation_score
from prefzoo.runtime import run_folders
from prefzoo.runtime.run_folders import Failure
from prefzoo.training.job import steps_of


@dataclass(frozen=True)
class Choice:
    """The choice by the validation pairs.

    Attributes:
        settings: variant -> its chosen setting; without variants of which no trial finished.
        scores: trial -> its score, of every trial that finished.
        stopped: trial -> the number of steps after which it was stopped early.
        finals: the trials of the chosen settings that are trained: what is measured and ranked.
    """

    settings: dict[str, str]
    scores: dict[str, Score]
    stopped: dict[str, int]
    finals: list[Trial]


def train_and_choose(experiment: Experiment, executor: Executor) -> Choice:
    """Train the trials that the choice needs, choose, and train the chosen settings with the remaining seeds.

    Raises:
        UserError: no trial was trained to its end, and the base alone is not worth a board.
    """
    trials = list(experiment.trials.values())
    searched = search.searched(experiment.recipe, trials)
    alive, stopped = _halve(experiment, executor, searched)
    executor.run(train_stages(experiment, alive, executor))
    scores: dict[str, Score] = {}
    if experiment.validation:
        scores = _scores(experiment, dict.fromkeys(t.name for t in alive))
        settings = search.choose(searched, scores)
    else:
        failed = failures(experiment)
        settings = {t.arm: t.setting for t in searched if t.name not in failed}
    finals = [t for t in trials if settings.get(t.arm) == t.setting]
    already = {t.name for t in searched}
    executor.run(train_stages(experiment, [t for t in finals if t.name not in already], executor))
    failed = failures(experiment)
    finals = [t for t in finals if t.name not in failed]
    check_any(finals, failed)
    return Choice(settings, scores, stopped, finals)


def failures(experiment: Experiment) -> dict[str, Failure]:
    """Return why trials could not be trained to their end, by their names."""
    read = {name: run_folders.read_failure(experiment.folder / name) for name in experiment.trials}
    return {name: failure for name, failure in read.items() if failure is not None}


def _halve(
    experiment: Experiment, executor: Executor, trials: list[Trial]
) -> tuple[list[Trial], dict[str, int]]:  # fmt: skip
    """Stop the worse trials early; return the trials that continue, and the steps after which the others stopped."""
    halving = search.settings_of(experiment.recipe).early_stopping
    alive, stopped = trials, dict[str, int]()
    if not experiment.validation or halving is None:
        return alive, stopped
    sweep, pairs = search.settings_of(experiment.recipe), len(experiment.pairs)
    rungs = {t.arm: search.rungs(sweep, steps_of(t.variant.train, pairs)) for t in alive}
    for number in range(max(len(steps) for steps in rungs.values())):
        due = {t.name: rungs[t.arm][number] for t in alive if number < len(rungs[t.arm])}
        stages = []
        for until in sorted(set(due.values())):
            stages += train_stages(experiment, [t for t in alive if due.get(t.name) == until], executor, until)
        executor.run(stages)
        ranked = [t for t in alive if t.name in due]
        survivors = {t.name for t in search.survivors(ranked, _scores(experiment, due), halving.factor)}
        failed = failures(experiment)  # these ended by themselves
        stopped |= {name: steps for name, steps in due.items() if name not in survivors and name not in failed}
        alive = [t for t in alive if t.name not in due or t.name in survivors]
        lost = f", {len(failed)} failed" if failed else ""
        experiment.console.print(f"rung {number + 1}: {len(alive)} trials continue, {len(stopped)} are stopped{lost}")
    return alive, stopped


def _scores(experiment: Experiment, until: Mapping[str, int | None]) -> dict[str, Score]:
    scores = {name: validation_score(experiment, experiment.trials[name], steps) for name, steps in until.items()}
    return {name: score for name, score in scores.items() if score is not None}


def check_any(finals: Sequence[Trial], failed: Mapping[str, Failure]) -> None:
    """Raise UserError where no trial is left and none failed by itself, as one whose loss diverged or raised."""
    if finals or any(failure.own for failure in failed.values()):
        return
    name, reason = next(((f.variant, f.reason) for f in failed.values()), ("", "no trial finished"))
    raise UserError(f"no variant can be ranked: every trial failed; {name}: {reason}")
