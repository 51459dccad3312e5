"""One optimiser step's gradients, pass by pass: of one policy or several, for losses of independent and coupled rows.

A loss whose rows are independent is called in each pass. One that couples rows is called once, on the log-probs of the
whole step gathered over passes and processes; its gradient with respect to them is then carried on through each pass.
Neither the number of passes, nor of processes, nor of policies changes the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from operator import add
from typing import Any, TypeVar

import torch
from accelerate import DistributedType
from torch import Tensor

from prefzoo.data.batches import collate
from prefzoo.data.tokens import TokenExample
from prefzoo.engine.logprobs import score
from prefzoo.engine.precision import autocast, step_autocast
from prefzoo.engine.reference_logprobs import select_rows
from prefzoo.errors import VariantFailed
from prefzoo.training.job import Job, moves_reference
from prefzoo.training.loss_call import call_loss
from prefzoo.training.loss_inputs import (
    Inputs,
    Values,
    flags_of,
    kind_of,
    make_inputs,
    mismatched_rows,
    sums_of,
    unpack,
    with_leaf_sums,
)
from prefzoo.training.passes import step_passes
from prefzoo.training.policies import Policies, Scored
from prefzoo.training.step_metrics import Metrics, RowMetrics, reduce_metrics, row_metrics
from prefzoo.types import LogProbs, Mismatched, PairBatch, Scores

Slopes = tuple[Tensor, ...]  # gradients with respect to the summed log-probs, (B,) for each of `sums_of`
Stepped = tuple[Metrics, Any]
T = TypeVar("T", bound=Values | Scores)


class PolicyFailed(Exception):
    """One policy's loss fails, and the others' do not.

    Args:
        number: the policy's.
        error: why; without the traceback, which would hold the step's tensors.
    """

    def __init__(self, number: int, error: VariantFailed) -> None:
        super().__init__(str(error))
        self.number, self.error = number, VariantFailed(error.lines, error.step)


@dataclass(frozen=True)
class StepContext:
    """An optimiser step of some of the policies.

    Attributes:
        policies: all of them.
        numbers: those that take this step.
        states: the state of each one's loss before the step.
        step: its number, from 0.
        rows: the rows of the whole step, all processes' together.
        seed: of dropout, in this process.
        halvings: how often passes were halved by now since one did not fit into memory; the step stays what it is.
    """

    policies: Policies
    numbers: Sequence[int]
    states: Sequence[Any]
    step: int
    rows: Sequence[int]
    seed: int
    halvings: int = 0

    @property
    def jobs(self) -> list[Job]:
        """Those of the policies that take this step, in order."""
        return [self.policies.jobs[n] for n in self.numbers]

    @property
    def accelerator(self) -> Any:
        """The policies' accelerator."""
        return self.policies.accelerator

    @property
    def device(self) -> torch.device:
        """The device that this process trains on."""
        return self.policies.accelerator.device  # type: ignore[no-any-return]

    def passes(self, pairs: Sequence[TokenExample], rows: Sequence[int]) -> list[list[int]]:
        """Return this process's share of the rows, split into passes.

        There are as many as in every other process, since all make their passes together.
        """
        job, accelerator = self.policies.jobs[0], self.accelerator
        parts = step_passes(
            job.train, pairs, rows, self.device.type, accelerator.num_processes, policies=len(self.policies.jobs),
            halvings=self.halvings,
        )  # fmt: skip
        return parts[accelerator.process_index]


def backward(context: StepContext) -> list[Stepped]:
    """Accumulate the gradients of each policy's mean loss over the step's rows.

    Returns:
        for each policy that takes the step, its metrics (means over the rows; losses and log-probs in nats) and the
        next state of its loss.

    Raises:
        PolicyFailed: a policy's loss fails; the gradients are those of a part of the step.
    """
    steps = [_PolicyStep(*own) for own in zip(context.numbers, context.jobs, context.states, strict=True)]
    couples = any(own.job.loss.couples for own in steps)
    parts = context.passes(steps[0].job.pairs, context.rows)
    bf16 = steps[0].job.bf16 and not sharded(context.accelerator)
    with step_autocast(context.device, bf16=bf16), context.policies.step_weights(bf16=bf16):
        scored = _couple(context, steps, parts) if couples else []
        for at, part in enumerate(parts):
            known = scored[at] if couples and len(parts) == 1 else None
            with context.policies.gradient_sync(last=part is parts[-1]):
                inputs = known or _inputs(context, part, context.seed + at if couples else None)
                losses = [s.pass_loss(context, at, len(part), own) for s, own in zip(steps, inputs, strict=True)]
                context.policies.backward(context.numbers, reduce(add, losses))
            del inputs, losses  # their graph is not to last until the next one is there
    return [(reduce_metrics(s.metrics, context.accelerator), s.after) for s in steps]


@dataclass
class _PolicyStep:
    """One policy in a step.

    Attributes:
        number: the policy's.
        before: the state of its loss before the step.
        after: the state after it.
        metrics: of each pass so far.
        slopes: of each pass, for a loss that couples rows.
    """

    number: int
    job: Job
    before: Any
    after: Any = None
    metrics: list[RowMetrics] = field(default_factory=list)
    slopes: list[Slopes] = field(default_factory=list)

    def pass_loss(self, context: StepContext, at: int, size: int, inputs: Inputs) -> Tensor:
        """Return the scalar whose gradient is this pass's part of the mean loss's over the step.

        Args:
            context: the step.
            at: the pass's number, from 0.
            size: its rows.
            inputs: what the loss is given of it.

        Raises:
            PolicyFailed: the loss fails.
        """
        if self.job.loss.couples:
            return surrogate_loss(inputs.policy, self.slopes[at])
        # all passes start from the same state, and rows that do not see each other leave the same one after them
        try:
            losses, self.after = call_loss(self.job.loss, self.job.params, inputs, self.before, context.step + 1)
        except VariantFailed as e:
            raise PolicyFailed(self.number, e) from None
        self.metrics.append(row_metrics(losses, inputs, self.job.params))
        answers = len(losses) // size  # an unpaired loss sees two answers of each pair
        total: Tensor = losses.sum() / (answers * len(context.rows) / context.accelerator.num_processes)
        return total


def _couple(context: StepContext, steps: Sequence[_PolicyStep], parts: Sequence[Sequence[int]]) -> list[list[Inputs]]:
    """Call the losses that couple rows on the whole step, and note their slopes; return all policies' inputs.

    A single pass keeps its graph; several are scored twice, here without one.
    """
    with torch.set_grad_enabled(len(parts) == 1):
        scored = [_inputs(context, part, context.seed + at) for at, part in enumerate(parts)]
    mismatched = _mismatched(context)
    for i, step in enumerate(steps):
        if step.job.loss.couples:
            try:
                step.slopes, step.metrics, step.after = grad_wrt_logprobs(
                    step.job, [own[i] for own in scored], context.accelerator, mismatched.get(i), step.before,
                    context.step + 1,
                )  # fmt: skip
            except VariantFailed as e:
                raise PolicyFailed(step.number, e) from None
    return scored


def grad_wrt_logprobs(
    job: Job, scored: Sequence[Inputs], accelerator: Any, mismatched: Mismatched | None, state: Any, step: int = 0
) -> tuple[list[Slopes], list[RowMetrics], Any]:
    """Return the gradient of a step's mean loss with respect to the log-probs of each pass.

    Args:
        job: the policy's, whose loss couples rows.
        scored: its inputs in each pass of this process.
        accelerator: gathers the rows of the other processes.
        mismatched: log-probs of each prompt with another row's answer, for a loss that reads them.
        state: the loss's, before the step.
        step: the step's number, from 1, for messages.

    Returns:
        for each pass the slopes, (B,) each, and the rows' metrics; and the state after the step.

    Raises:
        VariantFailed: the loss fails.
    """
    leaves = [with_leaf_sums(s.policy) for s in scored]
    own = [replace(s, policy=leaf) for s, leaf in zip(scored, leaves, strict=True)]
    whole = replace(_gather_inputs(own, accelerator), mismatched=mismatched)
    losses, state = call_loss(job.loss, job.params, whole, state, step)
    tips = [values for leaf in leaves for values in sums_of(leaf)]
    grads = torch.autograd.grad(losses.mean() * accelerator.num_processes, tips, materialize_grads=True)
    metrics = [row_metrics(None, s, job.params) for s in scored]
    metrics[0]["loss"] = losses.detach().mean()[None]  # of the whole step, in every process
    size = len(tips) // len(leaves)
    return [grads[i : i + size] for i in range(0, len(grads), size)], metrics, state


def surrogate_loss(policy: Values, slopes: Slopes) -> Tensor:
    """Return a scalar, linear in the log-probs, whose gradient with respect to them is `slopes`."""
    terms = [(values * slope).sum() for values, slope in zip(sums_of(policy), slopes, strict=True)]
    return reduce(add, terms)


def _score(context: StepContext, numbers: Sequence[int], batch: PairBatch) -> list[Scored]:
    with autocast(context.device, bf16=context.policies.jobs[0].bf16):
        return context.policies.score(numbers, batch)


def _batch(context: StepContext, pairs: Sequence[TokenExample]) -> PairBatch:
    return collate(pairs, context.policies.jobs[0].layout, pad=context.policies.pad).to(context.device)


def _inputs(context: StepContext, part: Sequence[int], seed: int | None) -> list[Inputs]:
    """Return what each policy's loss is given of a pass. The same `seed` drops out the same units."""
    if seed is not None:
        torch.manual_seed(seed)
    batch = _batch(context, [context.policies.jobs[0].pairs[i] for i in part])
    scored = _score(context, context.numbers, batch)
    return [_loss_inputs(job, part, batch, own, context.step) for job, own in zip(context.jobs, scored, strict=True)]


def _loss_inputs(job: Job, part: Sequence[int], batch: PairBatch, scored: Scored, step: int) -> Inputs:
    device, examples = batch.tokens.device, [job.pairs[i] for i in part]
    reference = None if job.reference is None else select_rows(job.reference, part, device)
    if moves_reference(job) and job.loss.needs_reference:
        reference = _live_score(job, batch, kind_of(job.loss, "reference"))
    policy, kl = scored
    inputs = make_inputs(examples, policy, reference, kl)
    inputs = replace(inputs, sources=flags_of(job.origins, examples, device))
    if step or job.start is None:
        return inputs
    return replace(inputs, start=unpack(select_rows(job.start, part, device), examples))


@torch.no_grad()
def _live_score(job: Job, batch: PairBatch, kind: type[LogProbs]) -> LogProbs:
    with autocast(batch.tokens.device, bf16=job.bf16):
        return score(job.live, batch, kind)


def _gather_inputs(own: Sequence[Inputs], accelerator: Any) -> Inputs:
    """Return all rows of the step: this process's with their leaves, the other processes' as constants."""

    def joined(values: list[Tensor]) -> Tensor:
        mine = torch.cat(values)
        if accelerator.num_processes == 1:
            return mine
        parts = list(accelerator.gather(mine.detach()[None]).unbind(0))
        parts[accelerator.process_index] = mine
        return torch.cat(parts)

    def whole(parts: Sequence[T]) -> T:
        return type(parts[0])(*(joined([getattr(p, f.name) for p in parts]) for f in fields(parts[0])))

    references = [i.reference for i in own if i.reference is not None]
    scores = [i.scores for i in own if i.scores is not None]
    return Inputs(
        whole([i.policy for i in own]),
        whole(references) if references else None,
        whole(scores) if scores else None,
    )


@torch.no_grad()
def _mismatched(context: StepContext) -> dict[int, Mismatched]:
    """Score each prompt with another row's answers, for the policies (by position) whose loss reads that.

    Each process scores its share under the policies; the reference's log-probs were computed before the training.
    """
    asking = {i: job for i, job in enumerate(context.jobs) if job.loss.needs_mismatched}
    if not asking:
        return {}
    pairs = mismatched_rows(context.rows, context.policies.jobs[0].pairs)
    ours: dict[int, list[Tensor]] = {i: [] for i in asking}
    theirs: dict[int, list[Tensor]] = {i: [] for i in asking}
    for part in context.passes(pairs, range(len(pairs))):
        some = [pairs[i] for i in part]
        batch = _batch(context, some)
        scored = _score(context, [context.numbers[i] for i in asking], batch)
        for (i, job), (policy, _) in zip(asking.items(), scored, strict=True):
            ours[i] += sums_of(unpack(policy, some))
            frozen = select_rows(job.mismatched[context.step], part, context.device)
            theirs[i] += sums_of(unpack(_live_score(job, batch, LogProbs) if moves_reference(job) else frozen, some))
    gather = context.accelerator.gather
    return {i: Mismatched(gather(torch.cat(ours[i])), gather(torch.cat(theirs[i]))) for i in asking}


def sharded(accelerator: Any) -> bool:
    """Return whether each process holds a part of the weights only, and none is to keep whole copies of them."""
    whole = DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU
    return accelerator.distributed_type not in whole
