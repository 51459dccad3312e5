"""Compare a run's folder with its recipe: trials that are reused, resumed, trained, trained again, or left over.

Everything is read, nothing is written: `check` prints it, and a run prints it before it touches anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from prefzoo.evals.boards import run_files
from prefzoo.experiment import archive, round_views
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.differences import changes
from prefzoo.experiment.request import Options
from prefzoo.experiment.search import Trial
from prefzoo.experiment.stages.measure import Numbers, state_of_numbers
from prefzoo.experiment.stages.trainings import Training
from prefzoo.experiment.stages.validate import is_validated
from prefzoo.experiment.standing_types import AGAIN, FAILED, NEW, RESUMED, REUSED, Standing, TrialStanding
from prefzoo.runtime import run_folders
from prefzoo.runtime.run_folders import BASE, RESOLVED

CONTENTS = {  # hash -> the settings that explain it, and what it is of
    "weights": ("model ", "the content of the model"),
    "rows": ("data.", "the training data"),
    "code of the loss": ("loss ", "the code of the loss"),
    "reference's weights": ("reference ", "the content of the reference"),
}
REMOVED = "its weights were removed, and it must be measured again"


def standing_of(experiment: Experiment, options: Options, *, replace: bool = False) -> Standing:
    """Compare a run's folder with its recipe.

    Args:
        experiment: what is to be run.
        options: `fresh` and `retry_failed` train again what would be reused.
        replace: whether results of other settings are to be overwritten.

    Returns:
        The state of every trial.
    """
    folder, earlier = experiment.folder, _resolved(experiment.folder)
    orphans = list(run_files.orphans(folder, experiment.trials))
    finished = _finished(folder, orphans)
    trials: dict[str, TrialStanding] = {}
    for name, trial in experiment.trials.items():
        one = _of_round(experiment, trial, trials) or _standing_of(experiment, trial, earlier, finished)
        trials[name] = _forced(one, options)
    adopted = {one.source.name for one in trials.values() if one.source and one.source.parent == folder}
    again = [
        name
        for name in (BASE, *(n for n, one in trials.items() if one.action == REUSED and one.source is None))
        if state_of_numbers(experiment, name) is Numbers.OTHER
    ]
    evaluation = changes(_evaluation(earlier), _evaluation(experiment.recipe.resolved())) if again and earlier else []
    return Standing(
        folder, trials, [name for name in orphans if name not in adopted], again, ", ".join(evaluation), replace
    )


def _standing_of(
    experiment: Experiment, trial: Trial, earlier: Mapping[str, Any], finished: Mapping[str, Path]
) -> TrialStanding:  # fmt: skip
    view = round_views.view_of(experiment, trial) or experiment
    training = Training.of(view, view.trials[trial.name])
    result, failure = run_folders.read_result(training.folder), run_folders.read_failure(training.folder)
    if result is not None and result.key == training.key and run_folders.has_checkpoint(training.folder):
        return TrialStanding(REUSED)
    if result is not None and result.key == training.key and run_folders.why_removed(training.folder):
        gone = state_of_numbers(experiment, trial.name) is not Numbers.SAME
        return TrialStanding(AGAIN, REMOVED) if gone else TrialStanding(REUSED)
    if is_validated(experiment, trial):  # stopped early by the others of its sweep, or chosen and still training
        return TrialStanding(REUSED)
    if failure is not None and failure.key == training.key:
        return TrialStanding(FAILED, f"at step {failure.step}; --retry-failed tries again")
    begun = training.checkpoints.newest()
    if begun is not None and begun[1]:
        return TrialStanding(RESUMED, f"after step {begun[0]}", step=begun[0])
    overwrites = run_folders.is_trial(training.folder) and not _is_same_but_broken(training)
    source = finished.get(training.key)
    if source is not None:
        return TrialStanding(REUSED, f"trained as {_shown(source, training.folder)}", source, overwrites)
    if not run_folders.is_trial(training.folder):
        return TrialStanding(NEW)
    return TrialStanding(AGAIN, _why_again(experiment, training, earlier), None, overwrites)


def _of_round(experiment: Experiment, trial: Trial, known: Mapping[str, TrialStanding]) -> TrialStanding | None:
    """Return the state of a round whose pairs are still to be sampled; None for any other trial."""
    trained = {name for name, one in known.items() if one.action == REUSED}
    reason, folder = round_views.why_not_ready(experiment, trial, trained), experiment.folder / trial.name
    if not reason:
        return None
    again = run_folders.is_trial(folder) and run_folders.read_failure(folder) is None
    return TrialStanding(AGAIN, reason, None, overwrites=True) if again else TrialStanding(NEW)


def _forced(one: TrialStanding, options: Options) -> TrialStanding:
    """Return the state as an option changes it."""
    if options.fresh and one.action in (REUSED, RESUMED, FAILED):
        return TrialStanding(AGAIN, "--fresh", None, one.overwrites)
    if options.retry_failed and one.action == FAILED:
        return TrialStanding(AGAIN, "--retry-failed")
    return one


def _is_same_but_broken(training: Training) -> bool:
    """Return whether the folder holds nothing of other settings: no training, or the same one without its weights."""
    result, failure = run_folders.read_result(training.folder), run_folders.read_failure(training.folder)
    if result is not None:
        return result.key == training.key
    if failure is not None:
        return failure.key == ""
    begun = training.checkpoints.newest()
    return begun is None and not any(training.folder.glob("validation*.json"))


def _finished(folder: Path, orphans: list[str]) -> dict[str, Path]:
    """Return folders of finished trainings by their key: ones that the recipe no longer has, and ones in archives."""
    archived = [path for earlier in archive.archives_of(folder) for path in sorted(earlier.glob("*"))]
    by_key: dict[str, Path] = {}
    for path in (*(folder / name for name in orphans), *archived):
        result = run_folders.read_result(path)
        if result is not None and result.weights and run_folders.has_checkpoint(path):
            by_key.setdefault(result.key, path)
    return by_key


def _shown(source: Path, folder: Path) -> str:
    return source.name if source.parent == folder.parent else f"{source.parent.name}/{source.name}"


def _why_again(experiment: Experiment, training: Training, earlier: Mapping[str, Any]) -> str:
    """Return the settings that changed since the trial's folder was written."""
    result, failure = run_folders.read_result(training.folder), run_folders.read_failure(training.folder)
    if failure is not None and not failure.key:
        return f"it failed: {failure.reason}"
    if result is None and _is_same_but_broken(training):
        return "it was interrupted before its first checkpoint"
    recipe = experiment.recipe.resolved()
    if result is None:  # it failed or was interrupted: only the recipe of that time has its settings
        variant = recipe["variants"].get(training.trial.arm, {})
        before = (earlier.get("variants") or {}).get(training.trial.arm, {})
        differing = changes(before, variant) + changes(_inputs(earlier), _inputs(recipe))
        return ", ".join(differing) or "its settings or inputs changed"
    if result.key == training.key:
        return "its weights are missing"
    before = {"loss": result.loss, **result.params, "train": _without_trackers(result.train)}
    differing = changes(before, {"loss": training.trial.variant.loss, **training.params, "train": training.settings})
    differing += changes({"seed": result.seed}, {"seed": training.trial.seed})
    known, now = dict(result.identity), dict(training.identity)
    if not known:  # of a version that did not write it
        return ", ".join(differing + changes(_inputs(earlier), _inputs(recipe))) or "its inputs changed"
    hashes = {name: (known.pop(name, None), now.pop(name, None)) for name in CONTENTS}
    differing += changes(known, now)
    for name, (before_hash, now_hash) in hashes.items():
        explained = any(line.startswith(CONTENTS[name][0]) for line in differing)
        if before_hash != now_hash and not explained:
            differing.append(f"{CONTENTS[name][1]} changed")
    return ", ".join(differing) or "its inputs changed"


def _without_trackers(train: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in train.items() if key not in ("trackers", "side_by_side")}


def _inputs(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that all trials of a recipe share, as plain values."""
    data = {key: value for key, value in (recipe.get("data") or {}).items() if key != "eval"}
    return {"model": recipe.get("model"), "data": data, "sweep": recipe.get("sweep")}


def _evaluation(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {"evals": recipe.get("evals"), "data": {"eval": (recipe.get("data") or {}).get("eval")}}


def _resolved(folder: Path) -> dict[str, Any]:
    """Return the recipe that the folder was written by; empty if there is none that can be read."""
    try:
        plain = yaml.safe_load((folder / RESOLVED).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return plain if isinstance(plain, dict) else {}


def secure(standing: Standing, console: Console | None = None) -> None:
    """Archive results that the run would overwrite, then move trainings from other folders into their trials' folders.

    A kill at any moment loses nothing: the same run then completes it.

    Args:
        standing: the state of the run's folder.
        console: where the archive's name is printed.
    """
    if standing.is_to_be_archived:
        target = archive.write_archive(standing.folder)
        if console is not None:
            line = f"the earlier results are archived: {target} (`prefzoo leaderboard {target.parent}` shows them)"
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    for name, one in standing.trials.items():
        if one.source is not None and one.source.is_dir():
            archive.adopt(one.source, standing.folder / name)
