"""A step's metrics: values of each row in each pass, and their means over passes and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prefzoo.training.loss_inputs import Inputs, Values, sums_of
from prefzoo.types import Answers

Metrics = dict[str, float]
RowMetrics = dict[str, Tensor]
BY_SOURCE = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
GAP = "gap"  # the larger of a row's distances from where the policy starts, in nats; not logged


def row_metrics(losses: Tensor | None, inputs: Inputs, params: Any) -> RowMetrics:
    """Return the rows' values under TRL's names.

    Rewards are beta (1 for a loss without it) times the log-ratio in nats; without a reference, beta times the mean
    token log-prob, as in SimPO. Of single answers, the good ones count as chosen and the others as rejected; they have
    no accuracy.

    Args:
        losses: (B,) losses in nats, or (2B,) of an unpaired loss; None where they are not this pass's own.
        inputs: what the loss was given.
        params: the loss's parameters.

    Returns:
        (B,) values by name; of single answers (G,) of the good ones and (B - G,) of the others. The same of each source
        of the data as `sources/NAME/...`, where there are several.
    """
    policy, values = inputs.policy.detach(), {} if losses is None else {"loss": losses.detach()}
    start = inputs.reference if inputs.start is None else inputs.start
    if start is not None:
        values[GAP] = torch.stack(_rewards(policy, start, 1.0)).abs().amax(0)
    beta = beta_of(params)
    rewards = _rewards(policy, inputs.reference, 1.0 if beta is None else beta)
    if isinstance(policy, Answers):
        good, bad, (reward,) = policy.desirable, ~policy.desirable, rewards
        sides = {"rewards/chosen": reward[good], "rewards/rejected": reward[bad]}
        values |= {**sides, "logps/chosen": policy.logps[good], "logps/rejected": policy.logps[bad]}
        return values | _by_source(values, inputs, {"rewards/chosen": good, "rewards/rejected": bad})
    chosen, rejected = rewards
    values |= {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).float() + (chosen == rejected).float() / 2,  # a tie counts as half
        "logps/chosen": policy.chosen,
        "logps/rejected": policy.rejected,
    }
    return values | _by_source(values, inputs, {})


def _by_source(values: RowMetrics, inputs: Inputs, sides: Mapping[str, Tensor]) -> RowMetrics:
    """Return the values of each source's rows; `sides` are the rows that a value of single answers is of.

    All sources are there in every pass and process, some without rows, so that processes have the same names.
    """
    split: RowMetrics = {}
    for source, own in inputs.sources.items():
        for name in BY_SOURCE:
            if name in values:
                flags = own[sides[name]] if name in sides else own
                both = flags.repeat(
                    len(values[name]) // max(1, len(flags))
                )  # an unpaired loss sees two answers of a pair
                split[f"sources/{source}/{name}"] = values[name][both]
    return split


def _rewards(policy: Values, reference: Values | None, beta: float) -> list[Tensor]:
    """Return the reward of each of `sums_of`."""
    if reference is None:
        return [beta * mean for mean in sums_of(policy.per_token())]
    return [beta * (own - base) for own, base in zip(sums_of(policy), sums_of(reference), strict=True)]


def beta_of(params: Any) -> float | None:
    """Return what a loss multiplies margins by: its parameter beta, of a sum its first term's that has one."""
    betas = [getattr(p, "beta", None) for p in (params, *(value for _, value in params))]
    return next((float(b) for b in betas if b is not None), None)


def reduce_metrics(passes: Sequence[RowMetrics], accelerator: Any) -> Metrics:
    """Return means over all rows of all passes and processes; a name without rows (no bad answer, say) is left out."""
    names = sorted({name for values in passes for name in values})
    parts = [[p[name] for p in passes if name in p] for name in names]
    sums = iter(torch.stack([part.sum() for some in parts for part in some]).tolist())  # a GPU is waited for once
    values = [[sum(next(sums) for _ in some), sum(map(len, some))] for some in parts]
    if accelerator.num_processes > 1:
        values = accelerator.reduce(
            torch.tensor(values, dtype=torch.float64, device=accelerator.device), "sum"
        ).tolist()
    return {name: value / count for name, (value, count) in zip(names, values, strict=True) if count}
