"""A step's metrics: values of each row in each pass, and their means over passes and processes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from prefzoo.training.loss_inputs import Inputs, Values, sums_of
from prefzoo.training.step_values import PassValues, fetch
from prefzoo.types import Answers

Metrics = dict[str, float]
RowMetrics = dict[str, Tensor]
BY_SOURCE = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
GRAD_NORM = "grad_norm"  # before clipping
GAP = "gap"  # the larger of a row's distances from where the policy starts, in nats; not logged


def fetch_metrics(
    steps: Sequence[tuple[Sequence[PassValues], Any]], norms: Sequence[Tensor], accelerator: Any
) -> list[Metrics]:
    """Return the metrics of a step; nothing else of it waits for a GPU.

    Args:
        steps: for each policy the values of its passes, and its loss's parameters.
        norms: of each policy's gradients before they were clipped.
        accelerator: Accelerate's.

    Returns:
        for each policy means over all rows of all passes and processes, and the norm.
    """
    fetched, numbers = fetch([values for passes, _ in steps for values in passes], norms)
    rest, metrics = iter(fetched), list[Metrics]()
    for (passes, params), norm in zip(steps, numbers, strict=True):
        rows = [row_metrics(values, params) for values in islice(rest, len(passes))]
        metrics.append({**reduce_metrics(rows, accelerator), GRAD_NORM: norm})
    return metrics


def row_metrics(of_pass: PassValues, params: Any) -> RowMetrics:
    """Return the values of a pass's rows under TRL's names.

    Rewards are beta (1 for a loss without it) times the log-ratio in nats; without a reference, beta times the mean
    token log-prob, as in SimPO. Of single answers, the good ones count as chosen and the others as rejected; they have
    no accuracy.

    Args:
        of_pass: what they are computed of, on the CPU.
        params: the loss's parameters.

    Returns:
        (B,) values by name; of single answers (G,) of the good ones and (B - G,) of the others. The same of each source
        of the data as `sources/NAME/...`, where there are several.
    """
    inputs, policy = of_pass.inputs, of_pass.inputs.policy
    values = {} if of_pass.losses is None else {"loss": of_pass.losses}
    start = inputs.reference if inputs.start is None else inputs.start
    if start is not None:
        values[GAP] = torch.stack(_rewards(policy, start, 1.0)).abs().amax(0)
    beta = beta_of(params)
    values |= _of_answers(policy, _rewards(policy, inputs.reference, 1.0 if beta is None else beta))
    values |= _by_source(values, inputs)
    return values if of_pass.mean_loss is None else {**values, "loss": of_pass.mean_loss}


def _of_answers(policy: Values, rewards: Sequence[Tensor]) -> RowMetrics:
    if isinstance(policy, Answers):
        good, bad, (reward,) = policy.desirable, ~policy.desirable, rewards
        sides = {"rewards/chosen": reward[good], "rewards/rejected": reward[bad]}
        return {**sides, "logps/chosen": policy.logps[good], "logps/rejected": policy.logps[bad]}
    chosen, rejected = rewards
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).float() + (chosen == rejected).float() / 2,  # a tie counts as half
        "logps/chosen": policy.chosen,
        "logps/rejected": policy.rejected,
    }


def _by_source(values: RowMetrics, inputs: Inputs) -> RowMetrics:
    """Return the values of each source's rows.

    All sources are there in every pass and process, some without rows, so that processes have the same names.
    """
    split: RowMetrics = {}
    sides: dict[str, Tensor] = {}  # the rows that a value of single answers is of
    if isinstance(inputs.policy, Answers):
        sides = {"rewards/chosen": inputs.policy.desirable, "rewards/rejected": ~inputs.policy.desirable}
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
    values = [[sum(float(part.sum()) for part in some), sum(map(len, some))] for some in parts]
    if accelerator.num_processes > 1:
        values = accelerator.reduce(
            torch.tensor(values, dtype=torch.float64, device=accelerator.device), "sum"
        ).tolist()
    return {name: value / count for name, (value, count) in zip(names, values, strict=True) if count}
