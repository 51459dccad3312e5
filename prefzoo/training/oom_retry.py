"""A step whose passes do not fit into memory is done again in passes half as large: the same step, up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from prefzoo.errors import UserError
from prefzoo.runtime.memory import is_out_of_memory, release_memory
from prefzoo.training.job import Job
from prefzoo.training.step import Stepped, backward, passes

CURE = "lower data.max_length, or set train.gradient_checkpointing: true or train.lora: {rank: 16}"


def backward_with_oom_retry(
    job: Job, scorer: Any, accelerator: Any, step: int, rows: Sequence[int], state: Any, *, seed: int,
    say: Callable[[str], None],
) -> tuple[Stepped, int]:  # fmt: skip
    """What `backward` gives, and how often passes were halved until they fitted (`Job.halvings`).

    Args:
        seed: of dropout; every try starts from it.

    Raises:
        UserError: not even one pair at a time fits, or one of several processes ran out: the others wait for it in the
            middle of a sum, so that the step cannot be done again.
    """
    while True:
        torch.manual_seed(seed)
        try:
            return backward(job, scorer, accelerator, step, rows, state), job.halvings
        except (RuntimeError, MemoryError) as e:
            if not is_out_of_memory(e):
                raise
        # not in the except block: by now the traceback is gone, and with it what the failed try held
        scorer.zero_grad(set_to_none=True)
        release_memory()
        job = _smaller(job, accelerator, step, rows, say)


def _smaller(job: Job, accelerator: Any, step: int, rows: Sequence[int], say: Callable[[str], None]) -> Job:
    parts = passes(job, accelerator, job.pairs, rows)
    most, place = max(map(len, parts)), f"{job.loss.name}: out of memory at step {step + 1}"
    if most == 1:
        longest = max(job.pairs[i].total for i in rows)
        raise UserError(f"{place} with one pair at a time, of at most {longest} tokens; {CURE}")
    if accelerator.num_processes > 1:
        raise UserError(
            f"{place} in process {accelerator.process_index} with {most} pairs at a time; set train.micro_batch or "
            "train.tokens lower (the step stays what it is); the same command goes on from the last checkpoint"
        )
    while max(map(len, passes(job, accelerator, job.pairs, rows))) > most // 2:
        job = replace(job, halvings=job.halvings + 1)
    say(f"{place} with {most} pairs at a time; goes on with {most // 2} at a time, the same batch")
    return job


def memory_notes(costs: Mapping[str, Mapping[str, float]]) -> str:
    """For the leaderboard: whose passes were halved; empty where none were."""
    lines = [
        f"- {name}: out of memory in training; passes were halved {_times(found['memory_halvings'])}, "
        "the batch of a step stayed the same."
        for name, found in costs.items()
        if found.get("memory_halvings")
    ]
    return "\n" + "".join(f"{line}\n" for line in lines) if lines else ""  # a list of its own


def _times(count: float) -> str:
    return {1: "once", 2: "twice"}.get(int(count), f"{int(count)} times")
