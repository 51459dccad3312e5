"""How much memory the base may take between the trainings of a run, so that the next policy is a copy of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from prefzoo.engine.precision import use_bf16
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.jobs import plain_job
from prefzoo.experiment.search import Trial
from prefzoo.runtime.devices import device_type, process_count
from prefzoo.runtime.memory import usable_gpu_bytes
from prefzoo.training.job import live_models
from prefzoo.training.memory_estimate import memory_need
from prefzoo.training.memory_model import FP32, model_shape
from prefzoo.training.memory_need import MemoryNeed, free_memory
from prefzoo.training.passes import RESERVE

ON_CPU = 2**30  # bytes of a base that stays in main memory: a large model is read again, so that the peak is no higher
SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")


def make_room(experiment: Experiment, trials: Sequence[Trial]) -> None:
    """Set how many bytes the base may take while trials are trained: what is free less what a training needs.

    None where nothing is trained or no other training starts from the base, where weights are sharded, for an unknown
    architecture, and in several processes on CPUs, which share the memory.

    Args:
        experiment: what the trials are of; the base's `room` is set.
        trials: what is trained, one at a time or side by side.
    """
    base = experiment.base
    base.room = _room(experiment, trials) if base.may_stay and len(experiment.trials) > 1 else 0.0


def bytes_that_stay(experiment: Experiment) -> float:
    """Return the most bytes of the base that are in memory while policies are trained; 0 if each policy is loaded."""
    trials = list(experiment.trials.values())
    if len(trials) < 2 or experiment.base.config is None:  # noqa: PLR2004 - with one, nothing else starts from it
        return 0.0
    size = float(FP32 * experiment.base.size)
    return size if _room(experiment, trials) >= size else 0.0


def _room(experiment: Experiment, trials: Sequence[Trial]) -> float:
    on_gpu = device_type() == "cuda"
    if experiment.start or _shards() or (not on_gpu and process_count() > 1):
        return 0.0
    first = {trial.arm: trial for trial in reversed(trials)}
    needs = [memory_of(experiment, trial) for trial in first.values()]
    peaks = [need.most for need in needs if need is not None]
    if not peaks or len(peaks) < len(needs):
        return 0.0
    loaded = FP32 * model_shape(experiment.base.config).parameters  # a policy, before what is frozen is cast
    if not on_gpu:
        return max(0.0, min(ON_CPU, RESERVE * free_memory() - max(loaded, *peaks)))
    return max(0.0, RESERVE * usable_gpu_bytes() - max(loaded, *peaks))


def _shards() -> bool:
    if not any(name in os.environ for name in SHARDING):
        return False  # without importing torch
    from accelerate.utils import parse_flag_from_env

    return any(parse_flag_from_env(name) for name in SHARDING)


def memory_of(experiment: Experiment, trial: Trial) -> MemoryNeed | None:
    """Return the memory that a trial's training needs; None for an unknown architecture.

    Args:
        experiment: what the trial is of.
        trial: what is trained.
    """
    other, train, config = experiment.reference_of(trial), trial.variant.train, experiment.base.config
    reference = None if other is None else other.config
    live = live_models(plain_job(experiment, trial), config, reference)
    return memory_need(config, experiment.pairs, train, bf16=use_bf16(train), live=live, reference=reference)
