"""Losses that couple rows: called once on the whole step's log-probs, whose gradients each pass then carries on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import reduce
from operator import add
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from prefzoo.training.job import Job
from prefzoo.training.loss_call import call_loss
from prefzoo.training.loss_inputs import Inputs, Values, gradient_paths, with_leaves
from prefzoo.training.step_values import PassValues, pass_values
from prefzoo.types import Mismatched, Scores, TokenKL

Slopes = tuple[Tensor, ...]  # gradients with respect to each of `gradient_paths`
T = TypeVar("T", bound=Values | Scores | TokenKL)


def grad_wrt_logprobs(
    job: Job, scored: Sequence[Inputs], accelerator: Any, mismatched: Mismatched | None, state: Any, step: int = 0
) -> tuple[list[Slopes], list[PassValues], Any]:
    """Return the gradient of a step's mean loss with respect to the log-probs of each pass.

    Args:
        job: the policy's, whose loss couples rows.
        scored: its inputs in each pass of this process.
        accelerator: gathers the rows of the other processes.
        mismatched: log-probs of each prompt with another row's answer, for a loss that reads them.
        state: the loss's, before the step.
        step: the step's number, from 1, for messages.

    Returns:
        for each pass the slopes and what its metrics are computed of; and the state after the step.

    Raises:
        VariantFailed: the loss fails.
    """
    own = [with_leaves(s) for s in scored]
    whole = replace(_gather_inputs(own, accelerator), mismatched=mismatched)
    losses, state = call_loss(job.loss, job.params, whole, state, step)
    tips = [values for part in own for values in gradient_paths(part)]
    grads = torch.autograd.grad(losses.mean() * accelerator.num_processes, tips, materialize_grads=True)
    mean = losses.mean()[None]  # of the whole step, in every process
    values = [pass_values(s, mean_loss=None if i else mean) for i, s in enumerate(scored)]
    size = len(tips) // len(own)
    return [grads[i : i + size] for i in range(0, len(grads), size)], values, state


def no_slopes(inputs: Inputs) -> Slopes:
    """Return slopes of zero."""
    return tuple(torch.zeros_like(values) for values in gradient_paths(inputs))


def surrogate_loss(inputs: Inputs, slopes: Slopes) -> Tensor:
    """Return a scalar, linear in the policy's log-probs and KL, whose gradient with respect to them is `slopes`."""
    terms = [(values * slope).sum() for values, slope in zip(gradient_paths(inputs), slopes, strict=True)]
    return reduce(add, terms)


def _gather_inputs(own: Sequence[Inputs], accelerator: Any) -> Inputs:
    """Return all rows of the step: this process's with their leaves, the other processes' as constants."""

    def joined(values: list[Tensor]) -> Tensor:
        width = max(part.shape[-1] for part in values)
        mine = torch.cat([pad(part, (0, width - part.shape[1])) if part.ndim > 1 else part for part in values])
        if accelerator.num_processes == 1:
            return mine
        mine = accelerator.pad_across_processes(mine, dim=1) if mine.ndim > 1 else mine
        parts = list(accelerator.gather(mine.detach()[None]).unbind(0))
        parts[accelerator.process_index] = mine
        return torch.cat(parts)

    def whole(parts: Sequence[T]) -> T:
        return type(parts[0])(*(joined([getattr(p, f.name) for p in parts]) for f in fields(parts[0])))

    references = [i.reference for i in own if i.reference is not None]
    scores = [i.scores for i in own if i.scores is not None]
    kl = [i.kl for i in own if i.kl is not None]
    return Inputs(
        whole([i.policy for i in own]),
        whole(references) if references else None,
        whole(scores) if scores else None,
        whole(kl) if kl else None,
    )
