"""Prepare a run's folder before its first stage: compare, archive or remove its contents, and write the inputs."""

from __future__ import annotations

import shutil

from prefzoo.data.faults import write_bad_rows
from prefzoo.evals.boards.run_files import SWEEP
from prefzoo.experiment import data_card, search, unchanged
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.request import Options, Request
from prefzoo.experiment.stages.trainings import RESUME
from prefzoo.experiment.stages.validate import discard_validation
from prefzoo.experiment.standing import secure, standing_of
from prefzoo.experiment.standing_types import Standing
from prefzoo.recipe import load
from prefzoo.runtime import run_folders


def prepare_folder(experiment: Experiment, request: Request, options: Options) -> Standing:
    """Print how the folder compares with the recipe, archive results of other settings, and write the inputs.

    Args:
        experiment: The run.
        request: The options of the run.
        options: How it starts: whether earlier results are removed.

    Returns:
        The state of the recipe's trials in the folder.

    Raises:
        UserError: Results of other settings cannot be archived.
    """
    (experiment.folder / unchanged.MARK).unlink(missing_ok=True)
    standing = standing_of(experiment, options, replace=request.replace)
    for line in standing.lines():
        experiment.console.print(line, soft_wrap=True, markup=False, highlight=False)
    secure(standing, experiment.console)
    _write_inputs(experiment)
    _discard(experiment, options)
    return standing


def _write_inputs(experiment: Experiment) -> None:
    run_folders.write_text(experiment.folder / "recipe.resolved.yaml", load.dump(experiment.recipe))
    run_folders.write_json(experiment.folder / "data_audit.json", experiment.audits)
    run_folders.write_json(experiment.folder / data_card.FILE, data_card.data_card(experiment))
    for use, rows in experiment.bad_rows.items():
        path = experiment.folder / f"dropped_rows.{use}.jsonl"
        write_bad_rows(path, rows)
        if rows:
            left = "1 row left out is" if len(rows) == 1 else f"{len(rows):,} rows left out are"
            experiment.console.print(f"data: the {left} in {path}", soft_wrap=True, markup=False)
    if not search.is_sweep(experiment.recipe):
        (experiment.folder / SWEEP).unlink(missing_ok=True)  # of an earlier recipe with this name


def _discard(experiment: Experiment, options: Options) -> None:
    """Remove everything that is to be trained again at once, so that a killed run can resume."""
    for folder in (experiment.folder / name for name in experiment.trials):
        if options.fresh:
            run_folders.discard_result(folder)
            shutil.rmtree(folder / RESUME, ignore_errors=True)
            discard_validation(folder)
        if options.retry_failed:
            (folder / run_folders.FAILED).unlink(missing_ok=True)
