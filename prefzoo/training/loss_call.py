"""Call a loss: if it raises, only its variant fails, with the line of the user's code."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from prefzoo.errors import VariantFailed
from prefzoo.losses import AnyLoss
from prefzoo.runtime.memory import is_out_of_memory
from prefzoo.runtime.plugins import RAISED, describe_error
from prefzoo.training.loss_inputs import Inputs, kind_of
from prefzoo.types import LogProbs, Mismatched, RankedScores, TokenKL, TokenLogProbs, VocabLogProbs

LENGTHS = ((3, 5), (4, 2))  # tokens of the chosen and of the rejected answer of the two made-up pairs
CALLS = 2  # so that a state is passed on once


def call_loss(loss: AnyLoss, params: BaseModel, inputs: Inputs, state: Any, step: int) -> tuple[Tensor, Any]:
    """Call a loss on the rows of a step, or of a part of it.

    Args:
        loss: the loss.
        params: its knobs.
        inputs: what it takes.
        state: its state before the step.
        step: the optimiser step, counted from 1; 0 before training.

    Returns:
        One value per row, and the state after the step.

    Raises:
        VariantFailed: the loss raises, does not return a value per row, or drops the gradient.
        RuntimeError, MemoryError: out of memory.
    """
    name = loss.name if step else f"{loss.name}, called on two made-up pairs"
    try:
        values, after = inputs.call(loss, params, state)
    except RAISED as e:
        if is_out_of_memory(e):
            raise
        raise VariantFailed(f"{name}: {describe_error(e)}; fix it there", step) from e
    if not values.requires_grad:
        raise VariantFailed(
            f"{name}: its values carry no gradient back to the policy, so nothing would be learned; compute them "
            "from the policy's tensors, without detach(), item() or no_grad()",
            step,
        )
    return values, after


def call_on_made_up_pairs(loss: AnyLoss, params: BaseModel, batch: int) -> float:
    """Call a loss on two made-up pairs, with gradients, twice in a row, to find errors before the training.

    Args:
        loss: the loss.
        params: its knobs.
        batch: pairs of an optimiser step; a loss that couples rows sees as many, any other two.

    Returns:
        The mean loss of the last call, in its own unit; it may be NaN or infinite.

    Raises:
        VariantFailed: the loss or its gradient fails; see `call_loss`.
    """
    rows = max(len(LENGTHS), batch) if loss.couples else len(LENGTHS)
    inputs, leaves = _made_up_inputs(loss, rows)
    given = _versions(inputs)
    try:
        state = loss.start()
        for _ in range(CALLS):
            values, state = call_loss(loss, params, inputs, state, 0)
        changed = [name for name, version in _versions(inputs).items() if version != given[name]]
        if changed:
            raise VariantFailed(
                f"{loss.name}, called on two made-up pairs: it changes {', '.join(changed)} in place, which metrics "
                "and the next loss read too; write x = x + 1 for x += 1, and x.clamp(...) for x.clamp_(...)",
                0,
            )
        torch.autograd.grad(values.sum(), leaves, allow_unused=True)
    except VariantFailed:
        raise
    except RAISED as e:
        line = f"{loss.name}, called on two made-up pairs: {describe_error(e)}; fix it there"
        raise VariantFailed(line, 0) from e
    return float(values.detach().mean())


def _versions(inputs: Inputs) -> dict[str, int]:
    """Return how often each tensor was changed in place, by its name, like `policy.chosen`."""
    parts = {part.name: getattr(inputs, part.name) for part in fields(inputs)}
    tensors = {
        f"{name}.{field.name}": getattr(part, field.name)
        for name, part in parts.items()
        if is_dataclass(part)
        for field in fields(part)
    }
    return {name: tensor._version for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


def _made_up_inputs(loss: AnyLoss, rows: int) -> tuple[Inputs, list[Tensor]]:
    """Return everything that any loss may take of some pairs, two different ones repeated, and where gradients end."""
    leaves: list[Tensor] = []
    policy = _log_probs(kind_of(loss, "policy"), rows, -1.5, leaves)
    reference = _log_probs(kind_of(loss, "reference"), rows, -1.25, None)
    columns = ([8.0, 7.0], [3.0, 6.0], [1.0, 0.75], [0.25, 0.5])  # scores of chosen and rejected, and their quantiles
    scores = RankedScores(*(torch.tensor(column).repeat(rows)[:rows] for column in columns))
    kl = TokenKL(*(0.01 * leaf.square().sum(1) for leaf in leaves))
    mismatched = Mismatched(*(torch.linspace(-20.0, -10.0, rows) + shift for shift in (0.0, 0.5)))
    return Inputs(policy, reference, scores, kl, mismatched), leaves


def _log_probs(kind: type[LogProbs], rows: int, level: float, leaves: list[Tensor] | None) -> LogProbs:
    """Return log-probs in nats of some pairs.

    Args:
        kind: one of the classes of log-probs.
        rows: how many pairs.
        level: of a token's log-prob.
        leaves: the two tensors that require gradients are added here; None for a reference, which has none.
    """
    lengths = torch.tensor([LENGTHS[i % len(LENGTHS)] for i in range(rows)])
    chosen, rejected = (_tokens(lengths[:, side], level - 0.25 * side, leaves) for side in (0, 1))
    sums = chosen.sum(1), rejected.sum(1), lengths[:, 0], lengths[:, 1]
    if kind is LogProbs:
        return LogProbs(*sums)
    if kind is TokenLogProbs:
        return TokenLogProbs(*sums, chosen, rejected)
    entropies = [(2.0 + 0.1 * side) * (side < 0) for side in (chosen, rejected)]
    sums_of_squares = [(0.5 * side - 1.0) * (side < 0) for side in (chosen, rejected)]
    return VocabLogProbs(*sums, chosen, rejected, *entropies, *sums_of_squares)


def _tokens(lengths: Tensor, level: float, leaves: list[Tensor] | None) -> Tensor:
    places = torch.arange(int(lengths.max()))
    log_probs = (level - 0.1 * places).repeat(len(lengths), 1)
    if leaves is not None:
        leaves.append(log_probs.requires_grad_())
    return log_probs * (places < lengths[:, None])
