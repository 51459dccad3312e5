"""One optimiser step's gradient, micro-batch by micro-batch, for losses of independent rows and of coupled ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from accelerate import DistributedType
from torch import Tensor

from prefzoo.data.batches import collate, split
from prefzoo.data.tokens import TokenExample
from prefzoo.engine.logprobs import score
from prefzoo.engine.precision import autocast, step_autocast
from prefzoo.engine.reference_logprobs import select_rows
from prefzoo.runtime.distributed import gradient_sync
from prefzoo.training.job import Job
from prefzoo.training.loss_inputs import (
    Inputs,
    Values,
    kind_of,
    make_inputs,
    mismatched_rows,
    sums_of,
    unpack,
    with_leaf_sums,
)
from prefzoo.types import Answers, LogProbs, Mismatched, PairBatch, Scores, TokenKL

TOKENS = {"cpu": 2048}  # more is no faster on two cores, and holds more memory
DEFAULT_TOKENS = 16384
Metrics = dict[str, float]
Stepped = tuple[Metrics, Any]
T = TypeVar("T", bound=Values | Scores)


def backward(job: Job, scorer: Any, accelerator: Any, step: int, rows: Sequence[int], state: Any) -> Stepped:
    """Gradients of the mean loss over `rows`, the whole step's; its metrics, and the loss's next state.

    Rows are dealt to the processes in turn. Where the loss lets rows see each other, their log-probs are gathered over
    micro-batches and processes first, so that neither changes the result.
    """
    parts = passes(job, accelerator, job.pairs, rows)
    with step_autocast(accelerator.device, bf16=job.bf16 and not sharded(accelerator)):
        if job.loss.couples:
            found, after = _coupled(job, scorer, accelerator, step, rows, parts, state)
        else:  # each pass starts from the same state, and rows that do not see each other leave the same behind
            stepped = [
                _independent(job, scorer, accelerator, part, len(rows), state, last=part is parts[-1]) for part in parts
            ]
            found, after = [metrics for metrics, _ in stepped], stepped[-1][1]
    return gathered(found, accelerator), after


def sharded(accelerator: Any) -> bool:
    """Return whether each process holds a part of the weights only: then none is to keep whole copies of them."""
    whole = DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU
    return accelerator.distributed_type not in whole


def passes(job: Job, accelerator: Any, pairs: Sequence[TokenExample], rows: Sequence[int]) -> list[list[int]]:
    """This process's share of the rows, dealt to passes: as many as in every other process, since all pass at once."""
    world, tokens = accelerator.num_processes, budget(job, accelerator.device.type)
    most = max(1, (job.train.micro_batch or -(-len(rows) // world)) >> job.halvings)
    parts = [split(pairs, rows[rank::world], tokens, most) for rank in range(world)]
    own = parts[accelerator.process_index]
    while len(own) < max(map(len, parts)):
        at = max(range(len(own)), key=lambda i: len(own[i]))
        half = len(own[at]) // 2
        own[at : at + 1] = [own[at][:half], own[at][half:]]
    return own


def budget(job: Job, device: str) -> int:
    """Tokens of one forward and backward pass on a type of device."""
    return (job.train.tokens or TOKENS.get(device, DEFAULT_TOKENS)) >> job.halvings


def _independent(
    job: Job, scorer: Any, accelerator: Any, part: list[int], count: int, state: Any, *, last: bool
) -> tuple[dict[str, Tensor], Any]:
    with gradient_sync(accelerator, scorer, last=last):
        inputs = _inputs(job, scorer, accelerator, part)
        each, after = inputs.call(job.loss, job.params, state)
        rows = count * len(each) // len(part)  # an unpaired loss sees two answers of each pair
        accelerator.backward(each.sum() * accelerator.num_processes / rows)
    return measures(each, inputs, job.params), after


def _coupled(
    job: Job, scorer: Any, accelerator: Any, step: int, rows: Sequence[int], parts: list[list[int]], state: Any
) -> tuple[list[dict[str, Tensor]], Any]:
    """The loss of the whole step, then its gradient with respect to each micro-batch's log-probs, carried on.

    One micro-batch keeps its graph; several are scored twice, first without one.
    """
    seed = torch.initial_seed()
    with torch.set_grad_enabled(len(parts) == 1):
        scored = [_inputs(job, scorer, accelerator, part, seed + at) for at, part in enumerate(parts)]
    mismatched = _mismatched(job, scorer, accelerator, step, rows) if job.loss.needs_mismatched else None
    slopes, found, state = grad_wrt_logprobs(job, scored, accelerator, mismatched, state)
    for at, (part, first) in enumerate(zip(parts, scored, strict=True)):
        with gradient_sync(accelerator, scorer, last=part is parts[-1]):
            again = first if len(parts) == 1 else _inputs(job, scorer, accelerator, part, seed + at)
            accelerator.backward(surrogate_loss(again.policy, slopes[at]))
    return found, state


Slopes = tuple[Tensor, ...]  # at each of `sums_of`


def grad_wrt_logprobs(
    job: Job, scored: list[Inputs], accelerator: Any, mismatched: Mismatched | None, state: Any
) -> tuple[list[Slopes], list[dict[str, Tensor]], Any]:
    """The loss of a whole step of coupled rows: its slope at each pass's log-probs, its metrics, its next state."""
    leaves = [with_leaf_sums(s.policy) for s in scored]
    own = [replace(s, policy=leaf) for s, leaf in zip(scored, leaves, strict=True)]
    each, state = replace(_whole(own, accelerator), mismatched=mismatched).call(job.loss, job.params, state)
    tips = [values for leaf in leaves for values in sums_of(leaf)]
    grads = torch.autograd.grad(each.mean() * accelerator.num_processes, tips, materialize_grads=True)
    found = [measures(None, s, job.params) for s in scored]
    found[0]["loss"] = each.detach().mean()[None]  # of the whole step, on every process
    size = len(tips) // len(leaves)
    return [grads[i : i + size] for i in range(0, len(grads), size)], found, state


def surrogate_loss(policy: Values, slopes: Slopes) -> Tensor:
    """Return a loss whose gradient with respect to these log-probs is `slopes`."""
    terms = [(values * slope).sum() for values, slope in zip(sums_of(policy), slopes, strict=True)]
    return torch.stack(terms).sum()


def _inputs(job: Job, scorer: Any, accelerator: Any, part: list[int], seed: int | None = None) -> Inputs:
    """A micro-batch's log-probs. The same `seed` drops out the same."""
    if seed is not None:
        torch.manual_seed(seed)
    device, pairs = accelerator.device, [job.pairs[i] for i in part]
    pad = accelerator.unwrap_model(scorer).model.config.pad_token_id or 0
    batch = collate(pairs, job.layout, pad=pad).to(device)
    with autocast(device, bf16=job.bf16):
        policy, kl = scored(job, scorer, batch)
    found = fed(job, part, policy, kl, device)
    if job.train.sync_reference is not None and job.loss.needs_reference:
        with torch.no_grad(), autocast(device, bf16=job.bf16):
            values = score(job.live, batch, kind_of(job.loss, "reference"))
        found = replace(found, reference=unpack(values, pairs))
    return found


def fed(job: Job, part: Sequence[int], policy: LogProbs, kl: TokenKL | None, device: torch.device) -> Inputs:
    """Return the inputs of the loss for some rows, given their log-probs under the policy."""
    reference = None if job.reference is None else select_rows(job.reference, part, device)
    return make_inputs([job.pairs[i] for i in part], policy, reference, kl)


def scored(job: Job, scorer: Any, batch: PairBatch) -> tuple[LogProbs, TokenKL | None]:
    """What the policy's module, bare or wrapped, makes of a batch."""
    found, kl = scorer(batch)
    return kind_of(job.loss, "policy")(*found), TokenKL(*kl) if kl else None


def _whole(own: list[Inputs], accelerator: Any) -> Inputs:
    """All rows of the step: this process's with their leaves, the other processes' as constants."""

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
def _mismatched(job: Job, scorer: Any, accelerator: Any, step: int, rows: Sequence[int]) -> Mismatched:
    """Each process scores its share under the policy; the reference's were scored before."""
    pairs, known = mismatched_rows(rows, job.pairs), job.mismatched[step]
    pad = accelerator.unwrap_model(scorer).model.config.pad_token_id or 0
    ours: list[Tensor] = []
    theirs: list[Tensor] = []
    for part in passes(job, accelerator, pairs, range(len(pairs))):
        some = [pairs[i] for i in part]
        batch = collate(some, job.layout, pad=pad).to(accelerator.device)
        with autocast(accelerator.device, bf16=job.bf16):
            ours += sums_of(unpack(scored(job, scorer, batch)[0], some))
        theirs += sums_of(unpack(select_rows(known, part, accelerator.device), some))
    return Mismatched(accelerator.gather(torch.cat(ours)), accelerator.gather(torch.cat(theirs)))


def measures(each: Tensor | None, inputs: Inputs, params: Any) -> dict[str, Tensor]:
    """Values under TRL's names. Rewards are beta (1 where a loss has none) times the log-ratio in nats.

    Without a reference they are beta times the mean token log-prob, as in SimPO. Of single answers, the good ones count
    as chosen and the others as rejected; they have no accuracy.
    """
    policy, found = inputs.policy.detach(), {} if each is None else {"loss": each.detach()}
    rewards = _rewards(policy, inputs.reference, _beta(params))
    if isinstance(policy, Answers):
        good, bad, (reward,) = policy.desirable, ~policy.desirable, rewards
        sides = {"rewards/chosen": reward[good], "rewards/rejected": reward[bad]}
        return {**found, **sides, "logps/chosen": policy.logps[good], "logps/rejected": policy.logps[bad]}
    chosen, rejected = rewards
    return {
        **found,
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).float(),
        "logps/chosen": policy.chosen,
        "logps/rejected": policy.rejected,
    }


def _rewards(policy: Values, reference: Values | None, beta: float) -> list[Tensor]:
    """Return the reward of each of `sums_of`."""
    if reference is None:
        return [beta * mean for mean in sums_of(policy.per_token())]
    return [beta * (own - base) for own, base in zip(sums_of(policy), sums_of(reference), strict=True)]


def _beta(params: Any) -> float:
    """The knob of that name, of a sum its first term's, else 1."""
    found = [getattr(p, "beta", None) for p in (params, *(value for _, value in params))]
    return float(next((b for b in found if b is not None), 1.0))


def gathered(found: list[dict[str, Tensor]], accelerator: Any) -> Metrics:
    """Means over all rows of all micro-batches and processes; a name without rows (no bad answer, say) is left out."""
    names = sorted({name for part in found for name in part})
    sums = [[sum(float(p[n].sum()) for p in found if n in p), sum(len(p[n]) for p in found if n in p)] for n in names]
    total = accelerator.reduce(torch.tensor(sums, dtype=torch.float64, device=accelerator.device), "sum")
    return {name: float(value / count) for name, (value, count) in zip(names, total, strict=True) if count}
