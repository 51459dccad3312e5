"""`prefzoo run --emit slurm`: scripts for clusters without Ray. Task i of an array trains trial i."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from prefzoo.errors import UserError
from prefzoo.experiment import search
from prefzoo.experiment.executors import Placing, launch_words, run_words
from prefzoo.experiment.stages.dispatch import Order, Stage
from prefzoo.recipe import load
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
# Hands the jobs in, each waiting for the one before; arguments go to every sbatch: ./submit.sh --time=8:00:00
set -euo pipefail
cd {folder}
reference=$(sbatch --parsable "$@" reference.sbatch)
train=$(sbatch --parsable --dependency=afterok:"${{reference%%;*}}" "$@" train.sbatch)
# afterany: a training that failed is tried once more by the last job, which also says why if it fails again.
sbatch --dependency=afterany:"${{train%%;*}}" "$@" evaluate.sbatch
"""


def write_scripts(path: Path, overrides: Sequence[str], results: Path, save_every: float, placing: Placing) -> None:
    """`reference.sbatch`, `train.sbatch`, `evaluate.sbatch` and `submit.sh` in the run's folder, under `slurm`.

    Raises:
        UserError: the recipe stops trials early, which asks for all of them at once.
    """
    found = load.load(path, overrides)
    if search.settings_of(found).early_stopping is not None:
        raise UserError(
            "sweep.early_stopping: tasks of an array do not wait for each other; leave it out by "
            "--set sweep.early_stopping=null, or run on Ray"
        )
    trials = search.expand(found)
    order = Order(str(path.resolve()), tuple(overrides), str(results.resolve()), save_every)
    folder = results.resolve() / found.name / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scripts(order, len(trials), found.name, folder, placing).items():
        run_folders.write_text(folder / name, text)
    (folder / "submit.sh").chmod(0o755)
    click.echo(
        f"{len(trials)} trainings, one array task each. Hand them in with\n  {shlex.quote(str(folder / 'submit.sh'))}"
    )
    click.echo("The results folder and the cache (PREFZOO_CACHE) must lie where every node can read them.")


def scripts(order: Order, trials: int, job: str, folder: Path, placing: Placing) -> dict[str, str]:
    """The texts of all scripts, by their files' names."""
    plain = ["python", "-m", *run_words(order)]
    several = placing.launch is not None or (placing.gpus or 0) > 1
    train = launch_words(order, Stage("train"), placing) if several else plain
    train = ["python", *train[1:-2]] if several else train
    return {
        "reference.sbatch": _script(f"{job}-reference", folder, placing, "", [*plain, "--stage", "reference"]),
        "train.sbatch": _script(f"{job}-train", folder, placing, f"#SBATCH --array=0-{trials - 1}\n", train, TASK),
        "evaluate.sbatch": _script(f"{job}-evaluate", folder, placing, "", plain),
        "submit.sh": SUBMIT.format(folder=shlex.quote(str(folder))),
    }


def _script(job: str, folder: Path, placing: Placing, array: str, words: Sequence[str], task: str = "") -> str:
    gpus = f"#SBATCH --gpus-per-node={max(1, round(placing.gpus))}\n" if placing.gpus else ""
    head = HEAD.format(
        job=job, cpus=placing.cpus, logs=folder, warning=WARNING, more=array + gpus, folder=shlex.quote(str(Path.cwd()))
    )
    stage = f' --stage "{task}"' if task else ""
    return f"{head}exec {shlex.join(words)}{stage}\n"  # exec: the signal then reaches the training itself
