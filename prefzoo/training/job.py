"""One variant to train, with all that its loss needs of the reference."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel

from prefzoo.data.batches import Layout, order
from prefzoo.data.tokens import TokenExample
from prefzoo.engine.base_model import Base
from prefzoo.engine.reference_logprobs import scatter_rows, select_rows
from prefzoo.losses import AnyLoss
from prefzoo.recipe.sections import Train
from prefzoo.training.loss_inputs import kind_of, mismatched_rows
from prefzoo.types import LogProbs

Frozen = Callable[[Sequence[TokenExample], str, type[LogProbs]], LogProbs]


@dataclass(frozen=True)
class Job:
    """One variant to train on `pairs`.

    Attributes:
        reference: frozen log-probs of all `pairs`, in order; NaN for those that no step sees; None for a loss without
            a reference.
        mismatched: frozen log-probs of `mismatched_rows` of each step, for a loss that asks for them.
        live: the reference model itself, for a loss that needs more of it than log-probs known beforehand, or for one
            that moves (`train.sync_reference`).
    """

    loss: AnyLoss
    params: BaseModel
    train: Train
    seed: int
    pairs: Sequence[TokenExample]
    layout: Layout
    bf16: bool
    reference: LogProbs | None = None
    mismatched: Sequence[LogProbs] = ()
    live: Any = None

    @property
    def steps(self) -> list[list[int]]:
        """The rows of each optimiser step."""
        return order(len(self.pairs), self.train.batch, steps_of(self.train, len(self.pairs)), self.seed)


def steps_of(train: Train, pairs: int) -> int:
    """Optimiser steps: as given, else epochs over the pairs, rounded up."""
    return train.steps or math.ceil(train.epochs * pairs / train.batch)


def with_reference(job: Job, base: Base, frozen: Frozen, also: Sequence[int] = ()) -> Job:
    """The job with everything its loss needs of the reference.

    Args:
        base: the reference model; it is read here where the loss needs it live.
        frozen: gives the log-probs of pairs under it, computed or kept: (pairs, what they are, kind).
        also: rows that other variants see, so that all share one computation.
    """
    loss, how = job.loss, job.train
    found: dict[str, Any] = {}
    if loss.needs_reference:
        rows = sorted({i for step in job.steps for i in step} | set(also))
        values = frozen([job.pairs[i] for i in rows], "training pairs", kind_of(loss, "reference"))
        found["reference"] = scatter_rows(values, rows, len(job.pairs))
    if loss.needs_mismatched:
        pairs = [pair for step in job.steps for pair in mismatched_rows(step, job.pairs)]
        values = frozen(pairs, "mismatched rows", LogProbs)
        starts = range(0, len(pairs), how.batch)
        found["mismatched"] = [select_rows(values, range(i, i + how.batch), torch.device("cpu")) for i in starts]
    if how.sync_reference is not None and loss.needs_reference:
        found["live"] = copy.deepcopy(base.model)
    elif loss.needs_kl:
        found["live"] = base.model
    return Job(**{**vars(job), **found})
