"""What `prefzoo run` is asked to do: a run in order, a sweep, on Ray, one stage alone, or scripts for SLURM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefzoo.errors import UserError


def begin(
    path: Path, overrides: Sequence[str], results: Path, ways: Mapping[str, Any],
    where: tuple[str, float | None, int, Path | None], emit: str | None, stage: str | None,
) -> bool:  # fmt: skip
    """Do it; whether a variant (of a sweep: a trial) failed.

    Args:
        ways: fresh, save_every, retry_failed and quiet, as `run_recipe` takes them.
        where: place, GPUs, CPUs and Accelerate profile of each stage.
    """
    from prefzoo.experiment.executors import Placing
    from prefzoo.experiment.pipeline import run_stage, run_stages
    from prefzoo.experiment.plain import run_recipe
    from prefzoo.experiment.search import is_sweep
    from prefzoo.recipe.load import load

    on, gpus, cpus, launch = where
    # absolute: a worker of a cluster is elsewhere
    placing = Placing(on, gpus, cpus, None if launch is None else launch.absolute())
    save_every = ways["save_every"]
    if placing.gpus is not None and placing.gpus > 1 and placing.gpus % 1:
        raise UserError(f"--gpus {placing.gpus}: above 1, GPUs are whole; give {placing.gpus:.0f}")
    if placing.launch is not None and not placing.launch.is_file():
        raise UserError(f"--launch {launch}: no such file; recipes/accelerate has profiles")
    if emit:
        from prefzoo.experiment.slurm import write_scripts

        write_scripts(path, overrides, results, save_every, placing)
        return False
    if stage:
        run_stage(path, overrides, results, save_every=save_every, text=stage)
        return False
    if placing.on != "local" or is_sweep(load(path, overrides)):
        return bool(run_stages(path, overrides, results, placing=placing, **ways)[1])
    return bool(run_recipe(path, overrides, results, **ways)[1])
