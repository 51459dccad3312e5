"""The devices that train, through Accelerate, and the trackers that a recipe names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator, DistributedType
from accelerate.utils import parse_flag_from_env

from prefzoo.engine.sharded_model import NEEDS_GPUS
from prefzoo.errors import UserError, did_you_mean
from prefzoo.runtime.distributed import process_state
from prefzoo.training.job import Job
from prefzoo.training.profiles import UPDATES_EARLY


@contextmanager
def accelerator_for(job: Job, folder: Path) -> Iterator[Accelerator]:
    """Yield the devices that train a job, with its trackers, which end with the context.

    Args:
        job: what is trained.
        folder: the variant's, for trackers that write files; its name and its parent's are the run's names.

    Raises:
        UserError: the devices do not suit the job.
    """
    process_state()  # before Accelerate joins the processes, with less patience
    accelerator = Accelerator(mixed_precision="no", log_with=job.train.trackers or None, project_dir=folder)
    try:
        _init_trackers(accelerator, job, folder)
        _check_devices(accelerator, job)
        yield accelerator
    finally:
        for tracker in accelerator.trackers:  # not end_training(): it also ends the process group
            tracker.finish()


def _init_trackers(accelerator: Accelerator, job: Job, folder: Path) -> None:
    if job.train.trackers:
        run = {"name": folder.name, "group": folder.parent.name}  # where a tracker has room for both
        settings = {"loss": job.loss.name, **job.params.model_dump()}
        accelerator.init_trackers("prefzoo", settings, {"wandb": run, "trackio": {"name": folder.name}})


def _check_devices(accelerator: Accelerator, job: Job) -> None:
    if parse_flag_from_env("ACCELERATE_USE_FSDP") and accelerator.distributed_type is not DistributedType.FSDP:
        raise UserError(NEEDS_GPUS)
    if accelerator.distributed_type is DistributedType.DEEPSPEED:  # it divides, clips and steps by its own settings
        accelerator.state.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": max(1, job.train.batch // accelerator.num_processes),
            "gradient_clipping": job.train.max_grad_norm,
            "zero_allow_untested_optimizer": True,
        }
        if job.train.sync_reference is not None and job.train.sync_reference.when == "before":
            raise UserError(UPDATES_EARLY)
    if job.train.batch % accelerator.num_processes:
        raise UserError(
            f"train.batch: {job.train.batch} pairs cannot be split evenly over {accelerator.num_processes} processes; "
            "choose a multiple"
        )


def check_trackers(names: Sequence[str]) -> None:
    """Check that Accelerate knows the trackers of a recipe and can use them.

    Raises:
        UserError: a line for each name that is no tracker of Accelerate's, or whose package is missing.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    usable, known = [str(n) for n in get_available_trackers()], [str(n) for n in LOGGER_TYPE_TO_CLASS]
    wrong = [n for n in names if n not in usable]
    if wrong:
        raise UserError(
            f"train.trackers: {n!r} needs its package; pip install {n}"
            if n in known
            else f"train.trackers: no tracker {n!r}{did_you_mean(n, known)}; known are {', '.join(sorted(known))}"
            for n in wrong
        )
