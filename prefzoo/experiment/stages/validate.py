"""Write a trial's margins on the validation pairs. No other numbers decide the choice of settings."""

from __future__ import annotations

import json
from pathlib import Path

from prefzoo.engine.precision import native_bf16
from prefzoo.engine.sharded_model import are_models_sharded
from prefzoo.evals.metrics.held_out import preference_margins
from prefzoo.experiment import search
from prefzoo.experiment.base_logprobs import base_on_validation, logprobs_of
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.search import Score, Trial
from prefzoo.experiment.stages.trainings import Training
from prefzoo.runtime import run_folders
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.progress import stage
from prefzoo.types import LogProbs


def validate(experiment: Experiment, trial: Trial, until: int | None) -> None:
    """Write the margins of a trial's checkpoint on the validation pairs. All processes call this.

    The main one scores; if models are sharded, all do.

    Args:
        experiment: what the trial is of.
        trial: one that is trained.
        until: the number of steps after which its training paused; None: it is over.
    """
    base = base_on_validation(experiment)
    main = process_state().is_main_process
    if main or are_models_sharded():
        model = experiment.load_trained(trial.name)
        title = f"validation pairs under {trial.name}"
        with stage(title, "pairs", experiment.console, variant=trial.name, activity="validation") as report:
            policy = logprobs_of(
                model, experiment.validation, experiment.layout, LogProbs, bf16=native_bf16(), report=report
            )
    if main:
        values = {"key": _key(experiment, trial, until), "margins": preference_margins(policy, base)}
        run_folders.write_json(_file(experiment.folder / trial.name, until), values)
    process_state().wait_for_everyone()


def validation_score(experiment: Experiment, trial: Trial, until: int | None = None) -> Score | None:
    """Return a trial's score on the validation pairs, from disk.

    Args:
        experiment: what the trial is of.
        trial: one whose score is wanted.
        until: the number of steps after which its training paused; None: it is over.

    Returns:
        None where the trial failed, or has no such score with its present settings.
    """
    folder = experiment.folder / trial.name
    try:
        values = json.loads(_file(folder, until).read_text(encoding="utf-8"))
        if run_folders.read_failure(folder) is not None or values["key"] != _key(experiment, trial, until):
            return None
        return search.score(values["margins"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_validated(experiment: Experiment, trial: Trial) -> bool:
    """Return whether a trial has a score with its present settings, at its end or at a pause on the way."""
    files = (experiment.folder / trial.name).glob("validation-*.json")
    pauses = [p.stem.removeprefix("validation-") for p in files]
    return any(validation_score(experiment, trial, int(until)) is not None for until in pauses if until.isdigit())


def discard_validation(folder: Path) -> None:
    """Remove all margins of a trial."""
    for path in folder.glob("validation*.json"):
        path.unlink()


def _file(folder: Path, until: int | None) -> Path:
    return folder / (f"validation-{until}.json" if until else "validation.json")


def _key(experiment: Experiment, trial: Trial, until: int | None) -> str:
    trained = Training.of(experiment, trial).key
    return key_of([trained, until, experiment.validation_rows, native_bf16()])
