"""One variant to train, with everything that its loss needs of the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from prefzoo.data.batches import Layout, mixed_order, order
from prefzoo.data.mixtures import Origins
from prefzoo.data.tokens import TokenExample
from prefzoo.data.views import select
from prefzoo.losses import AnyLoss
from prefzoo.recipe.sections import Train
from prefzoo.runtime.cache import cached, key_of
from prefzoo.runtime.lazy_torch import Tensor, torch
from prefzoo.training.loss_inputs import MismatchedRows, kind_of
from prefzoo.training.memory_estimate import with_tokens
from prefzoo.training.memory_model import model_shape
from prefzoo.training.passes import Passes, scoring_passes
from prefzoo.types import LogProbs

if TYPE_CHECKING:
    from prefzoo.engine.base_model import Base

# examples, their name, the kind of log-probs, and the passes in which each process scores them
Frozen = Callable[[Sequence[TokenExample], str, type[LogProbs], list[Passes]], LogProbs]


@dataclass(frozen=True)
class Job:
    """One variant to train on `pairs`.

    Attributes:
        loss: the loss.
        params: its parameters.
        train: the loop's settings.
        seed: of the order of rows and of dropout.
        pairs: the training data, pairs or single answers.
        layout: how a pass lays them out.
        bf16: whether matrix products run in bf16.
        reference: frozen log-probs of all `pairs`, in order; NaN for those that no step sees; None for a loss without
            a reference.
        mismatched: frozen log-probs of `mismatched_rows` of each step, for a loss that reads them.
        live: the reference model itself, for a loss that needs more of it than log-probs computed beforehand, or if it
            moves (`train.sync_reference`).
        start: frozen log-probs of the first step's rows under the model that the policy starts from, where that is not
            the reference, laid out as `reference`; else None.
        other_reference: hash of the weights of such a reference; else empty.
        pair_weights: (P,) weights of the pairs in the mean loss, in fp32; None where all count alike.
        origins: the sources of the training data, if there are several: drawn by their weights, and told apart in the
            metrics.
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
    start: LogProbs | None = None
    other_reference: str = ""
    pair_weights: Tensor | None = None
    origins: Origins | None = None

    @cached_property
    def steps(self) -> list[list[int]]:
        """The rows of each optimiser step."""
        batch, steps = self.train.batch, steps_of(self.train, len(self.pairs))
        if self.origins is None or not self.origins.weights:
            return order(len(self.pairs), batch, steps, self.seed)
        return mixed_order(self._members(), self.origins.weights, batch, steps, self.seed)

    @cached_property
    def largest(self) -> tuple[int, int]:
        """Tokens of the largest step and of the longest row that a step sees; cached, as of many rows it takes long."""
        lengths = [pair.total_tokens for pair in self.pairs]
        weights = [] if self.origins is None else [list(self.origins.weights), list(map(len, self._members()))]
        depends = {
            "lengths": key_of(lengths), "batch": self.train.batch, "steps": steps_of(self.train, len(lengths)),
            "seed": self.seed, "weights": weights,
        }  # fmt: skip
        step, row = cached("steps", depends, lambda: self._largest(lengths))
        return step, row

    def _largest(self, lengths: Sequence[int]) -> list[int]:
        steps = [[lengths[i] for i in rows] for rows in self.steps]
        return [max(map(sum, steps)), max(map(max, steps))]

    def _members(self) -> Sequence[Sequence[int]]:
        return [] if self.origins is None else self.origins.members(self.pairs)


def steps_of(train: Train, pairs: int) -> int:
    """Return the number of optimiser steps: as set, else epochs over the pairs, rounded up."""
    return train.steps or math.ceil(train.epochs * pairs / train.batch)


def with_reference(
    job: Job, base: Base, frozen: Frozen, *, steps: Sequence[Sequence[int]] | None = None, together: int = 1
) -> Job:
    """Return the job with everything that its loss needs of the reference, and with passes that suit a GPU's memory.

    Args:
        job: what is to be trained.
        base: the reference model; it is read here if the loss needs it live.
        frozen: returns log-probs under the reference, computed or cached.
        steps: the rows of each step that are scored, if there are more than the job's: a longer training's with the
            same passes, so that both share one computation.
        together: how many policies are trained side by side, in passes that are smaller for it.

    Returns:
        the job with `reference`, `mismatched` and `live` as its loss needs them.
    """
    from prefzoo.engine.reference_logprobs import scatter_rows, select_rows

    if not job.other_reference:  # else the base is not the model that is trained
        job = with_pass_size(job, base.config)
    loss, train = job.loss, job.train
    parts: dict[str, Any] = {}
    if loss.needs_reference:
        steps = job.steps if steps is None else steps
        rows = sorted({i for step in steps for i in step})
        at = {row: i for i, row in enumerate(rows)}
        passes = _passes(train, job.pairs, steps, together)
        passes = [[[at[i] for i in part] for part in own] for own in passes]
        values = frozen(select(job.pairs, rows), "training pairs", kind_of(loss, "reference"), passes)
        parts["reference"] = scatter_rows(values, rows, len(job.pairs))
    if loss.needs_mismatched:
        pairs = MismatchedRows(job.steps, job.pairs)
        starts = range(0, len(pairs), train.batch)
        passes = _passes(train, pairs, [range(i, i + train.batch) for i in starts], together)
        values = frozen(pairs, "mismatched rows", kind_of(loss, "reference"), passes)
        parts["mismatched"] = [select_rows(values, range(i, i + train.batch), torch.device("cpu")) for i in starts]
    if moves_reference(job):
        parts["live"] = None if train.lora else base.take()
    elif loss.needs_kl:
        parts["live"] = base.whole
    return replace(job, **parts)


def moves_reference(job: Job) -> bool:
    """Return whether a training's loss reads a reference, and that follows the policy."""
    return job.train.sync_reference is not None and (job.loss.needs_reference or job.loss.needs_kl)


def live_models(job: Job, model: Any, reference: Any) -> list[Any]:
    """Return the configurations of the models that stay in memory beside a policy while it trains.

    Args:
        job: what is to be trained.
        model: configuration of the model that it starts from.
        reference: that of its reference, if that is another model.

    Returns:
        One for each model; a model that is held three times is there three times.
    """
    train = job.train
    if moves_reference(job) and train.sync_reference is not None:
        copies = 0 if train.lora else 3 if train.sync_reference.bema else 1  # an adapter's is as small as the adapter
        return [model] * copies
    return [reference or model] if job.loss.needs_kl else []


def with_pass_size(job: Job, config: Any) -> Job:
    """Return a job whose passes suit the memory of this process's GPU.

    Args:
        job: what is to be trained.
        config: configuration of the model that it starts from; None where it is not known.

    Returns:
        The job; unchanged where passes have a size of their own, on CPUs, and for an unknown architecture.
    """
    try:
        shape = model_shape(config)
    except (AttributeError, TypeError):
        return job
    held = len(live_models(job, config, None))
    return replace(job, train=with_tokens(job.train, shape, bf16=job.bf16, held=held))


def with_twin(job: Job, policy: Any) -> Job:
    """Return the job with the live reference of an adapter, if it moves.

    Args:
        job: what is to be trained, as `with_reference` returned it.
        policy: the model with the fresh adapter; its frozen weights are shared.

    Returns:
        The job; `live` is as it was unless the reference moves and there is an adapter.
    """
    if not moves_reference(job) or job.train.lora is None:
        return job
    from accelerate import DistributedType

    from prefzoo.runtime.distributed import process_state
    from prefzoo.training.moving_reference import frozen_twin

    state = process_state()
    shares = state.distributed_type is not DistributedType.DEEPSPEED  # which empties the tensors that it partitions
    return replace(job, live=frozen_twin(policy, shares=shares).to(state.device))


def with_start(job: Job, frozen: Frozen, *, together: int = 1) -> Job:
    """Return the job with what its first step is tested against if the reference is another model.

    Args:
        job: what is to be trained.
        frozen: returns log-probs under the model that the policy starts from.
        together: how many policies are trained side by side.

    Returns:
        The job with `start`.
    """
    from prefzoo.engine.reference_logprobs import scatter_rows

    rows = sorted(set(job.steps[0]))
    passes = _passes(job.train, job.pairs, job.steps[:1], together)
    passes = [[[rows.index(i) for i in part] for part in own] for own in passes]
    values = frozen([job.pairs[i] for i in rows], "first step's pairs", LogProbs, passes)
    return replace(job, start=scatter_rows(values, rows, len(job.pairs)))


def _passes(
    train: Train, pairs: Sequence[TokenExample], steps: Sequence[Sequence[int]], together: int
) -> list[Passes]:  # fmt: skip
    from prefzoo.runtime.distributed import process_state

    state = process_state()
    return scoring_passes(train, pairs, steps, state.device.type, state.num_processes, together)
