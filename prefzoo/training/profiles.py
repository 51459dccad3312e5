"""Check Accelerate profiles (`--launch`) before anything is started with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from accelerate import DistributedType

from prefzoo.errors import UserError, did_you_mean
from prefzoo.recipe.sections import Train
from prefzoo.runtime.versions import version_of

USED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.FSDP,
        DistributedType.DEEPSPEED)  # fmt: skip
UPDATES_EARLY = (
    "train.sync_reference.when: before is not possible with DeepSpeed, which updates the weights in the backward "
    "pass; leave it out, or use FSDP"
)
HAVE = "recipes/accelerate has profiles"


def check_profile(path: Path, trains: Mapping[str, Train]) -> None:
    """Open a profile as `accelerate launch` does, and compare it with what is trained.

    Args:
        path: the profile's.
        trains: settings of each variant's training, by its name.

    Raises:
        UserError: a training would be refused under it; a line for each fault.
    """
    config, at = _read(path), f"--launch {path}"
    faults = []
    if config.distributed_type not in USED:
        names = ", ".join(str(kind.value) for kind in USED)
        faults.append(f"{at}: distributed_type: {config.distributed_type} is not used here; choose one of {names}")
    if config.distributed_type == DistributedType.DEEPSPEED and version_of("deepspeed") is None:
        faults.append(f"{at}: distributed_type: DEEPSPEED needs its package; pip install deepspeed")
    if config.distributed_type == DistributedType.FSDP and config.use_cpu:
        faults.append(f"{at}: FSDP shards only over GPUs, but use_cpu is true; use recipes/accelerate/ddp.yaml")
    if config.num_processes < 1:
        faults.append(f"{at}: num_processes is missing; add the number of processes that share a training, like 2")
    for name, train in trains.items():
        follows_early = train.sync_reference is not None and train.sync_reference.when == "before"
        if config.distributed_type == DistributedType.DEEPSPEED and follows_early:
            faults.append(f"variants.{name}.{UPDATES_EARLY} ({at})")
        if config.num_processes > 0 and train.batch % config.num_processes:
            faults.append(
                f"variants.{name}.train.batch: {train.batch} pairs cannot be split evenly over {config.num_processes} "
                f"processes ({at}); choose a multiple"
            )
    if faults:
        raise UserError(faults)


def profile_warnings(path: Path) -> list[str]:
    """Return a warning for each setting of a profile that has no effect, and for processes without a GPU here."""
    import torch

    config, at = _read(path), f"--launch {path}"
    lines = []
    if config.mixed_precision not in (None, "no"):
        lines.append(f"{at}: mixed_precision: {config.mixed_precision} has no effect; train.precision decides")
    steps = config.deepspeed_config.get("gradient_accumulation_steps", 1)
    if steps != 1:
        lines.append(f"{at}: gradient_accumulation_steps: {steps} has no effect; train.micro_batch decides")
    here, wanted = torch.cuda.device_count(), config.num_processes // max(1, config.num_machines)
    if not config.use_cpu and config.distributed_type != DistributedType.MULTI_CPU and wanted > here:
        lines.append(f"{at}: {wanted} processes on a machine, each with a GPU, and {here} GPUs are here")
    return lines


def _read(path: Path) -> Any:
    """Return Accelerate's own view of a profile.

    Raises:
        UserError: it cannot be read; one line.
    """
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    at = f"--launch {path}"
    try:
        if not path.is_file():
            raise UserError(f"{at}: no such file; {HAVE}")
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(plain, dict):
            raise UserError(f"{at}: is not a mapping of settings; {HAVE}")
        fields = list(ClusterConfig.__dataclass_fields__)
        unknown = [key for key in plain if key not in (*fields, "fp16", "dynamo_backend")]
        if unknown and plain.get("compute_environment", "LOCAL_MACHINE") == "LOCAL_MACHINE":
            raise UserError(f"{at}: {key}: no such setting{did_you_mean(str(key), fields)}" for key in unknown)
        config = load_config_from_file(str(path))
    except yaml.YAMLError as e:
        raise UserError(f"{at}: is not YAML ({str(e).splitlines()[0]}); {HAVE}") from None
    except (OSError, ValueError, TypeError, AttributeError) as e:
        reason = e.strerror if isinstance(e, OSError) else " ".join(str(e).split())
        raise UserError(f"{at}: cannot be used ({reason}); {HAVE}") from None
    if not isinstance(config, ClusterConfig):
        raise UserError(f"{at}: compute_environment: must be LOCAL_MACHINE; {HAVE}")
    if not isinstance(config.num_processes, int):
        raise UserError(f"{at}: num_processes: must be a whole number (is {config.num_processes!r})")
    return config
