"""Estimate what a run takes on this machine: time by part, and disk. `check` shows it, and a run before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from time import monotonic
from typing import Any

import numpy as np

from prefzoo.engine.precision import native_bf16
from prefzoo.evals.judges.protocol import Judge
from prefzoo.experiment import work_names
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.disk import disk_of
from prefzoo.experiment.facts import KnownExperiment, Unknown
from prefzoo.experiment.jobs import plain_job
from prefzoo.experiment.plan_types import BENCHMARKS, CALL, GENERATION, JUDGING, LOADING, TRAINING, RunEstimate
from prefzoo.experiment.standing_types import Standing
from prefzoo.experiment.works import Trained, Work, of_trainings, points_left, trained, works_of
from prefzoo.runtime.devices import has_gpu, process_count
from prefzoo.runtime.lazy_torch import torch
from prefzoo.runtime.rates import thread_clock
from prefzoo.training.memory_model import FP32

WORTH = 30.0  # seconds: a run that is roughly shorter is not worth a measurement
ON_GPU = 4  # times as long on a GPU, which spends most of a measurement on loading and on preparing its kernels
FORWARD, BACKWARD = 2, 6  # flops per weight and token
LOAD, READ = 0.3, 5e8  # seconds of loading a model besides its bytes, and bytes of it per second
IMPORT, DOCUMENTS = 2.0, 1e5  # seconds that a benchmark takes before its first document, and its tokens
JUDGING_MODELS = (".causal", ".reward")  # modules whose judges load a model, and can be measured
SIDE, PRODUCTS = 1024, 10  # of the matrix products that tell how fast this machine is


def estimate(experiment: Experiment, judge: Judge | None, standing: Standing) -> RunEstimate:
    """Estimate what a run takes, from earlier runs, or else from a short measurement.

    A measurement takes seconds and is stored in the user's cache. Runs of less than about half a minute, or on a GPU
    two minutes, and runs in several processes, are not measured.

    Args:
        experiment: read and loaded.
        judge: its judge, if any.
        standing: how the run's folder stands.

    Returns:
        Time by part of what is left to do, and disk.
    """
    todo = trained(experiment, standing)
    works = works_of(experiment, judge, todo)
    size, operations = experiment.base.size, _speed(experiment)
    roughly = {work.name: _roughly(work, size, operations) for work in works}
    worth = WORTH * (ON_GPU if has_gpu() else 1)
    if sum(roughly[w.name] * w.units for w in works) > worth and process_count() == 1:
        unknown = {work.name: work for work in works if experiment.rates.get(work.name) is None}
        _measure(experiment, judge, todo, list(unknown.values()), operations / (BACKWARD * size))
    return _put_together(experiment, judge, works, roughly, todo, size)


def _measure(
    experiment: Experiment, judge: Judge | None, todo: Trained, unknown: Sequence[Work], tokens: float
) -> None:  # fmt: skip
    """Measure works; training may reach roughly `tokens` per second here.

    Raises:
        Unknown: the experiment is not loaded.
    """
    if isinstance(experiment, KnownExperiment):
        models = judge is not None and type(judge).__module__.endswith(JUDGING_MODELS)
        if any(work.row != LOADING and (work.row != JUDGING or models) for work in unknown):
            raise Unknown
        return
    if not unknown:
        return
    from prefzoo.experiment.measurements import Measurement

    jobs = {name: plain_job(experiment, experiment.trials[name]) for name in todo.left}
    Measurement(experiment, judge, jobs, tokens).take([work.name for work in unknown])


def _put_together(
    experiment: Experiment, judge: Judge | None, works: Sequence[Work], roughly: Mapping[str, float], todo: Trained,
    size: int,
) -> RunEstimate:  # fmt: skip
    seconds: dict[str, float] = {}
    rough, unknown, origins = dict[str, None](), dict[str, None](), set[str]()
    for work in works:
        known = experiment.rates.get(work.name)
        if known is not None:
            origins |= {known[1]} if work.row != LOADING else set()
        else:
            (unknown if work.row == JUDGING else rough)[work.row] = None
        each = known[0] if known is not None else roughly[work.name]
        seconds[work.row] = seconds.get(work.row, 0.0) + each * work.units
    power = experiment.rates.get(work_names.POWER)
    words = {"run": "from earlier runs", "trial": "measured in a few steps"}
    return RunEstimate(
        seconds, _details(experiment, judge, todo), list(rough), list(unknown),
        [words[origin] for origin in words if origin in origins], disk_of(experiment, todo, size),
        _trainings(experiment, size), 1.0 if has_gpu() else crowding(),
        experiment.recipe.price_per_hour, power[0] if power is not None else None,
    )  # fmt: skip


def _trainings(experiment: Experiment, size: int) -> dict[str, float]:
    """Return the seconds of every trial's training, finished or not."""
    jobs = {name: plain_job(experiment, trial) for name, trial in experiment.trials.items()}
    every, operations = dict.fromkeys(jobs, 1.0), _speed(experiment)
    seconds: dict[str, float] = {}
    for name, work in zip(jobs, of_trainings(experiment, jobs, every), strict=True):
        known = experiment.rates.get(work.name)
        seconds[name] = work.units * (known[0] if known is not None else _roughly(work, size, operations))
    return seconds


def _details(experiment: Experiment, judge: Judge | None, todo: Trained) -> dict[str, str]:
    evals, models = experiment.recipe.evals, len(todo.measured)
    answers = f"{len(experiment.prompts)} prompts of {_count(models, 'model')}, at most {evals.max_new_tokens} tokens"
    if not models:
        answers = f"{_count(points_left(experiment, todo), 'point')} of the frontier"
    return {
        TRAINING: _count(len(todo.left), "training"),
        GENERATION: answers,
        JUDGING: judge.name if judge is not None else "",
        BENCHMARKS: f"{', '.join(evals.benchmarks)} of {_count(models, 'model')}",
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _roughly(work: Work, size: int, operations: float) -> float:
    """Return the seconds of a unit of work, from only the size of the model and the operations per second."""
    forward = FORWARD * size / operations
    if work.row == LOADING:
        return LOAD + size * FP32 / READ
    if work.row == TRAINING:
        return forward * BACKWARD / FORWARD
    if work.row == JUDGING:
        return CALL
    if work.row == BENCHMARKS:
        return IMPORT + forward * DOCUMENTS
    if work.row == GENERATION and not work.name.startswith("scoring"):
        return 2 * forward
    return forward


def _speed(experiment: Experiment) -> float:
    """Return floating-point operations per second that training may get here, measured once."""
    bf16 = native_bf16()
    name = work_names.products(bf16=bf16)
    known = experiment.rates.get(name)
    if known is not None:
        return 1 / known[0]
    operations = speed(bf16=bf16)
    experiment.rates.record(name, 1 / operations, 1, "trial")
    return operations


@cache
def speed(*, bf16: bool) -> float:
    """Return floating-point operations per second that training may get: half of a large matrix product's."""
    dtype: Any = torch.bfloat16 if bf16 else torch.float32
    device = "cuda" if has_gpu() else "cpu"
    a, b = torch.randn(SIDE, SIDE, device=device, dtype=dtype), torch.randn(SIDE, SIDE, device=device, dtype=dtype)
    (a @ b).sum().item()
    start = thread_clock()
    for _ in range(PRODUCTS):
        c = a @ b
    c.sum().item()
    return 0.5 * 2 * SIDE**3 * PRODUCTS / (thread_clock() - start)


@cache
def crowding() -> float:
    """Return how many times longer work takes now than without the other processes on the same cores, at least 1."""
    a = np.ones((SIDE // 2, SIDE // 2), np.float32)
    computed, passed = thread_clock(), monotonic()
    for _ in range(PRODUCTS):
        a @ a
    return max(1.0, (monotonic() - passed) / max(1e-9, thread_clock() - computed))
