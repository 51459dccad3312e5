"""Repeat a step whose passes do not fit into memory in passes half as large: the same step, up to rounding.

Before that, what is in memory only to save time leaves it: the untrained model, of which the next policy is a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from prefzoo.errors import UserError
from prefzoo.runtime.memory import drop_spare, is_out_of_memory, release_memory
from prefzoo.training.step import StepContext, Stepped, backward

CURE = "lower data.max_length, or set train.gradient_checkpointing: true or train.lora: {rank: 16}"


def backward_with_oom_retry(context: StepContext, report_line: Callable[[str], None]) -> tuple[list[Stepped], int]:
    """Call `backward`, without spare memory or with smaller passes as long as they do not fit into memory.

    Args:
        context: the step; every try starts dropout from its seed.
        report_line: is given a line for the user whenever passes are halved.

    Returns:
        what `backward` returns, and how often passes were halved until they fitted (`StepContext.halvings`).

    Raises:
        UserError: not even one pair at a time fits; or one of several processes ran out of memory: the others wait for
            it in the middle of a sum, so that the step cannot be done again.
        MemoryError: not even one pair at a time fits under several policies; fewer of them may.
    """
    while True:
        torch.manual_seed(context.seed)
        try:
            return backward(context), context.halvings
        except (RuntimeError, MemoryError) as e:
            if not is_out_of_memory(e):
                raise
        # not in the except block: by now the traceback is gone, and with it what the failed try held
        context.policies.zero_grad()
        release_memory()
        if context.accelerator.num_processes == 1 and drop_spare():
            report_line(f"{_where(context)}; the untrained model leaves memory, and the step is repeated")
            continue
        context = _with_smaller_passes(context, report_line)


def _with_smaller_passes(context: StepContext, report_line: Callable[[str], None]) -> StepContext:
    pairs, accelerator = context.policies.jobs[0].pairs, context.accelerator
    most = _largest_pass(context)
    where = _where(context)
    if most == 1:
        if len(context.numbers) > 1:
            raise MemoryError(f"{where} with one pair at a time")
        longest = max(pairs[i].total_tokens for i in context.rows)
        raise UserError(f"{where} with one pair at a time, of at most {longest} tokens; {CURE}")
    if accelerator.num_processes > 1:
        raise UserError(
            f"{where} in process {accelerator.process_index} with {most} pairs at a time; set train.micro_batch or "
            f"train.tokens lower (the step stays the same); run the same command to resume from the last checkpoint"
        )
    while _largest_pass(context) > most // 2:
        context = replace(context, halvings=context.halvings + 1)
    report_line(f"{where} with {most} pairs at a time; continues with {most // 2} at a time, the same batch")
    return context


def _where(context: StepContext) -> str:
    return f"{', '.join(job.loss.name for job in context.jobs)}: out of memory at step {context.step + 1}"


def _largest_pass(context: StepContext) -> int:
    """Return how many pairs the largest pass of the step has."""
    return max(map(len, context.passes(context.policies.jobs[0].pairs, context.rows)))


def memory_notes(costs: Mapping[str, Mapping[str, float]]) -> str:
    """Return Markdown lines for the leaderboard that name the variants whose passes were halved.

    Args:
        costs: each variant's, as in `Member.costs`.

    Returns:
        a list, with an empty line before it; an empty string if no passes were halved.
    """
    lines = [
        f"- {name}: out of memory in training; passes were halved {_times(cost['memory_halvings'])}, "
        "the batch of a step stayed the same."
        for name, cost in costs.items()
        if cost.get("memory_halvings")
    ]
    return "\n" + "".join(f"{line}\n" for line in lines) if lines else ""


def _times(count: float) -> str:
    return {1: "once", 2: "twice"}.get(int(count), f"{int(count)} times")
