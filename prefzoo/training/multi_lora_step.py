"""Several LoRA variants in one pass: one frozen base, an adapter and an optimiser each, the same numbers as alone.

Which variants may go together: `deal`. One step of all: `backward_together`. The loop over them: together.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prefzoo.data.batches import collate, split
from prefzoo.data.tokens import TokenExample
from prefzoo.engine.logprobs import score_policies
from prefzoo.engine.precision import autocast, step_autocast
from prefzoo.engine.reference_logprobs import select_rows
from prefzoo.training.job import Job
from prefzoo.training.loss_inputs import Inputs, kind_of, mismatched_rows, sums_of, unpack
from prefzoo.training.multi_lora import Adapters
from prefzoo.training.step import (
    Slopes,
    Stepped,
    budget,
    fed,
    gathered,
    grad_wrt_logprobs,
    measures,
    surrogate_loss,
)
from prefzoo.types import LogProbs, Mismatched, TokenKL


def deal(jobs: Mapping[str, Job], device: str, processes: int) -> tuple[list[list[str]], list[str]]:
    """Which variants train together, in the recipe's order, and a line for each that was asked to but cannot.

    Variants may go together that share batch, steps, precision, pass limits and the form of their adapters; loss,
    learning rate and all else of the optimiser are each one's own. As many do as have their whole steps in the tokens
    of one pass, so that memory stays that of one variant. `on` also takes what needs several passes.
    """
    forms: dict[Any, list[str]] = {}
    notes = []
    for name, job in jobs.items():
        why = _alone(job, device, processes)
        if why and job.train.side_by_side == "on":
            notes.append(f"{name}: train.side_by_side: {why}; trained alone")
        forms.setdefault((name,) if why else _form(job), []).append(name)
    groups = [group for names in forms.values() for group in _grouped({n: jobs[n] for n in names}, device)]
    return sorted(groups, key=lambda group: list(jobs).index(group[0])), notes


def _grouped(jobs: Mapping[str, Job], device: str) -> list[list[str]]:
    """Variants of one form, as many at a time as there is room for."""
    first = next(iter(jobs.values()))
    whole, room = _whole(first, device), max(1, _room(first, device))
    parts = [list(jobs)]
    if first.train.micro_batch is not None or min(len(jobs), room) > whole:  # coupled rows are then scored twice
        parts = [[name for name, job in jobs.items() if bool(job.loss.couples) == couples] for couples in (False, True)]
    return [part[i : i + room] for part in parts for i in range(0, len(part), room)]


def _alone(job: Job, device: str, processes: int) -> str:
    """Why a variant cannot share its passes; nothing where it can."""
    how = job.train
    if how.side_by_side == "off":
        return "is off"
    if how.lora is None:
        return "needs train.lora"
    if how.lora.quantize:
        return "does not know quantised weights"
    if processes > 1:
        return "is for one process"
    if _room(job, device) < 2:  # noqa: PLR2004 - two variants
        return "two variants' steps do not fit in one pass, and dropout would differ in several; raise train.tokens"
    return ""


def _form(job: Job) -> tuple[Any, ...]:
    """What variants of one group have in common."""
    how = job.train
    lora = None if how.lora is None else how.lora.model_dump_json()
    limits = how.micro_batch, how.tokens, how.gradient_checkpointing, how.side_by_side
    return how.batch, len(job.steps), job.bf16, lora, limits


def _whole(job: Job, device: str) -> int:
    """Variants whose whole steps fit in one pass's tokens."""
    return budget(job, device) // max(sum(job.pairs[i].total for i in rows) for rows in job.steps)


def _room(job: Job, device: str) -> int:
    """Variants that may go together."""
    whole = _whole(job, device)
    if job.train.side_by_side == "auto" or (job.train.lora is not None and job.train.lora.dropout):
        return whole
    return max(2, whole, budget(job, device) // max(job.pairs[i].total for rows in job.steps for i in rows))


@dataclass(frozen=True)
class Policies:
    """N policies on one model, and the jobs that they are trained for."""

    adapters: Adapters
    jobs: Sequence[Job]
    device: torch.device

    def of(self, numbers: Sequence[int]) -> list[Job]:
        """From now on, passes are for these."""
        self.adapters.active = numbers
        return [self.jobs[n] for n in numbers]

    def passes(self, pairs: Sequence[TokenExample], rows: Sequence[int], count: int) -> list[list[int]]:
        """The rows, dealt to passes of `count` policies each."""
        job = self.jobs[0]
        return split(pairs, rows, budget(job, self.device.type) // count, job.train.micro_batch)

    def score(self, numbers: Sequence[int], pairs: Sequence[TokenExample]) -> list[tuple[LogProbs, TokenKL | None]]:
        """Log-probs of the same pairs under each of these policies."""
        jobs, model = self.of(numbers), self.adapters.model
        batch = collate(pairs, jobs[0].layout, pad=model.config.pad_token_id or 0).to(self.device)
        kinds, references = [kind_of(job.loss, "policy") for job in jobs], [_moved_from(job) for job in jobs]
        with autocast(self.device, bf16=jobs[0].bf16):
            return score_policies(model, batch, kinds, references)

    def inputs(self, numbers: Sequence[int], part: Sequence[int], seed: int | None) -> list[Inputs]:
        """What each one's loss takes of some rows. The same `seed` drops out the same."""
        if seed is not None:
            torch.manual_seed(seed)
        scored = self.score(numbers, [self.jobs[0].pairs[i] for i in part])
        return [fed(self.jobs[n], part, *found, self.device) for n, found in zip(numbers, scored, strict=True)]

    @torch.no_grad()
    def mismatched(self, numbers: Sequence[int], step: int, rows: Sequence[int]) -> dict[int, Mismatched]:
        """Of those whose loss asks: each prompt with another row's answer, under policy and reference."""
        asking = [n for n in numbers if self.jobs[n].loss.needs_mismatched]
        pairs = mismatched_rows(rows, self.jobs[0].pairs)
        ours: dict[int, list[Tensor]] = {n: [] for n in asking}
        theirs: dict[int, list[Tensor]] = {n: [] for n in asking}
        for part in self.passes(pairs, range(len(pairs)), len(numbers)) if asking else []:
            some = [pairs[i] for i in part]
            scored = self.score(asking, some)
            for n, (policy, _) in zip(asking, scored, strict=True):
                ours[n] += sums_of(unpack(policy, some))
                theirs[n] += sums_of(unpack(select_rows(self.jobs[n].mismatched[step], part, self.device), some))
        return {n: Mismatched(torch.cat(ours[n]), torch.cat(theirs[n])) for n in asking}


def _moved_from(job: Job) -> Any:
    return job.live if job.loss.needs_kl else None


def backward_together(
    policies: Policies, numbers: Sequence[int], accelerator: Any, step: int, rows: Sequence[int], states: Sequence[Any]
) -> list[Stepped]:
    """`step.backward` of several policies on the same rows: each one's gradient, metrics and next state."""
    jobs = policies.of(numbers)
    parts = policies.passes(jobs[0].pairs, rows, len(jobs))
    couples, seed = any(job.loss.couples for job in jobs), torch.initial_seed()
    found: list[list[dict[str, Tensor]]] = [[] for _ in jobs]
    after, slopes = list(states), dict[int, list[Slopes]]()
    with step_autocast(accelerator.device, bf16=jobs[0].bf16):
        first: list[list[Inputs]] = []
        if couples:
            with torch.set_grad_enabled(len(parts) == 1):
                first = [policies.inputs(numbers, part, seed + at) for at, part in enumerate(parts)]
            others = policies.mismatched(numbers, step, rows)
            for i, (n, job) in enumerate(zip(numbers, jobs, strict=True)):
                if job.loss.couples:
                    own = [scored[i] for scored in first]
                    slopes[i], found[i], after[i] = grad_wrt_logprobs(job, own, accelerator, others.get(n), states[i])
        for at, part in enumerate(parts):
            again = couples and len(parts) == 1
            now = first[at] if again else policies.inputs(numbers, part, seed + at if couples else None)
            pulls = [surrogate_loss(scored.policy, slopes[i][at]) for i, scored in enumerate(now) if i in slopes]
            for i, (job, scored) in enumerate(zip(jobs, now, strict=True)):
                if i not in slopes:
                    each, after[i] = scored.call(job.loss, job.params, states[i])
                    pulls.append(each.sum() / (len(rows) * len(each) // len(part)))
                    found[i].append(measures(each, scored, job.params))
            policies.of(numbers)  # which computing activations twice looks at
            accelerator.backward(sum(pulls))
    return [(gathered(metrics, accelerator), state) for metrics, state in zip(found, after, strict=True)]
