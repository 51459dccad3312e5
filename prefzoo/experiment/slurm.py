"""`prefzoo run --emit slurm`: write scripts for clusters without Ray. Task i of an array trains trial i."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefzoo.errors import UserError
from prefzoo.experiment import search
from prefzoo.experiment.executors import Resources
from prefzoo.experiment.ray_executor import launch_words
from prefzoo.experiment.request import Request
from prefzoo.experiment.stages.stage import TRAIN, Stage
from prefzoo.recipe.load import Recipe
from prefzoo.runtime import run_folders

WARNING = 120  # seconds before the time limit in which a training can write its checkpoint
TASK = "train:${SLURM_ARRAY_TASK_ID}"
HEAD = """\
#!/usr/bin/env bash
#SBATCH --job-name={job}
#SBATCH --cpus-per-task={cpus}
#SBATCH --ntasks=1
#SBATCH --output={logs}/%x-%A_%a.log
#SBATCH --requeue
#SBATCH --signal=B:TERM@{warning}
{more}# Account, partition and time are yours to add, here or on the command line of sbatch.
set -euo pipefail
cd {folder}
export OMP_NUM_THREADS={cpus} TOKENIZERS_PARALLELISM=false
"""
SUBMIT = """\
#!/usr/bin/env bash
# Submits the jobs, each waiting for the one before; arguments go to every sbatch: ./submit.sh --time=8:00:00
set -euo pipefail
cd {folder}
reference=$(sbatch --parsable "$@" reference.sbatch)
train=$(sbatch --parsable --dependency=afterok:"${{reference%%;*}}" "$@" train.sbatch)
# afterany: a training that failed is tried once more by the last job, which also reports why if it fails again.
sbatch --dependency=afterany:"${{train%%;*}}" "$@" evaluate.sbatch
"""


@dataclass(frozen=True)
class Scripts:
    """The script that submits all jobs, and the number of trainings."""

    submit: Path
    trials: int


def write_scripts(request: Request, resources: Resources, recipe: Recipe) -> Scripts:
    """Write `reference.sbatch`, `train.sbatch`, `evaluate.sbatch` and `submit.sh` to `slurm` in the run's folder.

    Args:
        request: which run.
        resources: the resources of each task.
        recipe: the recipe of the request.

    Returns:
        The script that submits all jobs.

    Raises:
        UserError: the recipe needs tasks that wait for each other.
    """
    resources.check()
    request = request.absolute()
    _check(recipe)
    trials = search.expand(recipe)
    folder = request.folder(recipe.name) / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scripts(request, len(trials), recipe.name, folder, resources).items():
        run_folders.write_text(folder / name, text)
    (folder / "submit.sh").chmod(0o755)
    return Scripts(folder / "submit.sh", len(trials))


def _check(recipe: Recipe) -> None:
    faults = []
    if search.settings_of(recipe).early_stopping is not None:
        faults.append(
            "sweep.early_stopping: tasks of an array do not wait for each other; leave it out by "
            "--set sweep.early_stopping=null, or run on Ray"
        )
    if recipe.rounds is not None:
        faults.append(
            "rounds: each waits for the one before, but tasks of an array do not wait; run it here, or on Ray"
        )
    asking = [name for name, variant in recipe.variants.items() if variant.train.side_by_side == "on"]
    if asking:
        faults.append(
            f"train.side_by_side: is on ({', '.join(asking)}), and a task of an array trains one trial; "
            "set it to auto, or run on Ray"
        )
    if faults:
        raise UserError(faults)


def scripts(request: Request, trials: int, job: str, folder: Path, resources: Resources) -> dict[str, str]:
    """Write the texts of all scripts.

    Args:
        request: the run.
        trials: how many trainings it has.
        job: the name of the jobs.
        folder: the folder of the scripts and their logs.
        resources: the resources of each job.

    Returns:
        The texts by their files' names.
    """
    plain = ["python", "-m", *request.words()]
    train = plain
    if resources.several_processes:
        train = ["python", *launch_words(request, Stage(TRAIN), resources)[1:-2]]
    return {
        "reference.sbatch": _script(f"{job}-reference", folder, resources, "", [*plain, "--stage", "reference"]),
        "train.sbatch": _script(f"{job}-train", folder, resources, f"#SBATCH --array=0-{trials - 1}\n", train, TASK),
        "evaluate.sbatch": _script(f"{job}-evaluate", folder, resources, "", plain),
        "submit.sh": SUBMIT.format(folder=shlex.quote(str(folder))),
    }


def _script(job: str, folder: Path, resources: Resources, array: str, words: Sequence[str], task: str = "") -> str:
    gpus = f"#SBATCH --gpus-per-node={max(1, round(resources.gpus))}\n" if resources.gpus else ""
    head = HEAD.format(
        job=job,
        cpus=resources.cpus,
        logs=folder,
        warning=WARNING,
        more=array + gpus,
        folder=shlex.quote(str(Path.cwd())),
    )
    stage = f' --stage "{task}"' if task else ""
    return f"{head}exec {shlex.join(words)}{stage}\n"  # exec: the signal then reaches the training itself
