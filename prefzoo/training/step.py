"""One optimiser step's gradients, pass by pass: of one policy or several, for losses of independent and coupled rows.

A loss whose rows are independent is called in each pass. One that couples rows is called once, on the log-probs of the
whole step gathered over passes and processes; its gradient with respect to them is then carried on through each pass.
Neither the number of passes, nor of processes, nor of policies changes the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor

from prefzoo.data.batches import collate
from prefzoo.data.tokens import TokenExample
from prefzoo.engine.logprobs import score
from prefzoo.engine.precision import autocast, step_autocast
from prefzoo.engine.recomputed import recomputed
from prefzoo.engine.reference_logprobs import select_rows
from prefzoo.errors import VariantFailed
from prefzoo.runtime.distributed import all_gather
from prefzoo.runtime.sharding import sharded
from prefzoo.training.coupling import Slopes, grad_wrt_logprobs, no_slopes, surrogate_loss
from prefzoo.training.job import Job, moves_reference
from prefzoo.training.loss_call import call_loss
from prefzoo.training.loss_inputs import Inputs, flags_of, kind_of, make_inputs, mismatched_rows, sums_of, unpack
from prefzoo.training.passes import step_passes
from prefzoo.training.policies import Policies, Scored
from prefzoo.training.step_metrics import Metrics, fetch_metrics
from prefzoo.training.step_values import PassValues, pass_values
from prefzoo.types import LogProbs, Mismatched, PairBatch, to_device

Stepped = tuple[Metrics, Any]


class PolicyFailed(Exception):
    """One policy's loss fails, but not the others'.

    Args:
        number: the policy's.
        error: why; without a traceback, which would hold the step's tensors.
    """

    def __init__(self, number: int, error: VariantFailed) -> None:
        super().__init__(str(error))
        self.number, self.error = number, error


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
        for each policy that takes the step, its metrics (means over the rows; losses and log-probs in nats; the norm of
        its gradients before they were clipped) and the next state of its loss.

    Raises:
        PolicyFailed: a policy's loss fails, in this process or another one; it is raised in all of them. The gradients
            are those of a part of the step.
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
    norms = [context.policies.clip_gradients(s.number, s.job.train.max_grad_norm) for s in steps]
    metrics = fetch_metrics([(s.values, s.job.params) for s in steps], norms, context.accelerator)
    for step, own in zip(steps, metrics, strict=True):
        if math.isnan(own["loss"]):  # the mean over all processes: they agree on it
            _raise_failure(step)
    return [(own, step.after) for own, step in zip(metrics, steps, strict=True)]


def _raise_failure(step: _PolicyStep) -> None:
    """If a policy's loss failed, raise the error of the first process that has one, in all processes."""
    own = None if step.failed is None else (step.failed.lines, step.failed.step)
    failure = next((other for other in all_gather(own) if other is not None), None)
    if failure is not None:
        raise PolicyFailed(step.number, VariantFailed(*failure))


@dataclass
class _PolicyStep:
    """One policy in a step.

    Attributes:
        number: the policy's.
        before: the state of its loss before the step.
        after: the state after it.
        values: what metrics are computed of, of each pass so far.
        slopes: of each pass, for a loss that couples rows.
        failed: why the loss fails in this process, which goes on with the others to the end of the step.
    """

    number: int
    job: Job
    before: Any
    after: Any = None
    values: list[PassValues] = field(default_factory=list)
    slopes: list[Slopes] = field(default_factory=list)
    failed: VariantFailed | None = None

    def pass_loss(self, context: StepContext, at: int, size: int, inputs: Inputs) -> Tensor:
        """Return the scalar whose gradient is this pass's part of the mean loss's over the step.

        Args:
            context: the step.
            at: the pass's number, from 0.
            size: its rows.
            inputs: what the loss is given of it.

        Raises:
            PolicyFailed: the loss fails, and there is no other process.
        """
        if self.failed is not None:
            return surrogate_loss(inputs, no_slopes(inputs))
        if self.job.loss.couples:
            return surrogate_loss(inputs, self.slopes[at])
        # all passes start from the same state, and rows that do not see each other leave the same one after them
        try:
            losses, self.after = call_loss(self.job.loss, self.job.params, inputs, self.before, context.step + 1)
        except VariantFailed as e:
            self.fail(e, [inputs], context)
            return surrogate_loss(inputs, no_slopes(inputs))
        answers = len(losses) // size  # an unpaired loss sees two answers of each pair
        if inputs.weights is not None:
            losses = losses * inputs.weights.repeat(answers)
        self.values.append(pass_values(inputs, losses))
        total: Tensor = losses.sum() / (answers * len(context.rows) / context.accelerator.num_processes)
        return total

    def fail(self, error: VariantFailed, scored: Sequence[Inputs], context: StepContext) -> None:
        """End the step, or in several processes, who wait for each other's passes, note that the loss fails.

        Args:
            error: why.
            scored: the inputs of the passes that it failed on; their loss counts as NaN.
            context: the step.

        Raises:
            PolicyFailed: there is no other process.
        """
        self.failed = VariantFailed(error.lines, error.step)  # without the traceback, which holds the step's tensors
        if context.accelerator.num_processes == 1:
            raise PolicyFailed(self.number, self.failed) from None
        for inputs in scored:
            self.values.append(pass_values(inputs, torch.full_like(sums_of(inputs.policy)[0].detach(), math.nan)))


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
                step.slopes, step.values, step.after = grad_wrt_logprobs(
                    step.job, [own[i] for own in scored], context.accelerator, mismatched.get(i), step.before,
                    context.step + 1,
                )  # fmt: skip
            except VariantFailed as e:
                step.fail(e, [own[i] for own in scored], context)
    return scored


def _score(context: StepContext, numbers: Sequence[int], batch: PairBatch) -> list[Scored]:
    with autocast(context.device, bf16=context.policies.jobs[0].bf16), recomputed(context.device):
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
    weights = None if job.pair_weights is None else to_device([job.pair_weights[list(part)]], device)[0]
    inputs = replace(inputs, sources=flags_of(job.origins, examples), weights=weights)
    if step or job.start is None:
        return inputs
    return replace(inputs, start=unpack(select_rows(job.start, part, device), examples))


@torch.no_grad()
def _live_score(job: Job, batch: PairBatch, kind: type[LogProbs]) -> LogProbs:
    with autocast(batch.tokens.device, bf16=job.bf16):
        return score(job.live, batch, kind)


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
            frozen = select_rows(job.mismatched[context.step], part, context.device)
            live = _live_score(job, batch, kind_of(job.loss, "reference")) if moves_reference(job) else frozen
            own, base = unpack(policy, some), unpack(live, some)
            ours[i] += sums_of(job.loss.modified_policy(own, base, job.params))
            theirs[i] += sums_of(base)
    gather = context.accelerator.gather
    return {i: Mismatched(gather(torch.cat(ours[i])), gather(torch.cat(theirs[i]))) for i in asking}
