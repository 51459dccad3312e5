"""The values for a step's metrics: gathered on the device pass by pass, and fetched once, at the step's end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from prefzoo.training.loss_inputs import Inputs, Values
from prefzoo.types import Answers, LogProbs

READ = ("policy", "reference", "start")  # inputs that metrics are computed of


@dataclass(frozen=True)
class PassValues:
    """The values of one pass.

    Attributes:
        inputs: what the loss was given: sums over answers, without gradients.
        losses: (B,) losses in nats, or (2B,) of an unpaired loss; None of a loss that couples rows.
        mean_loss: (1,) mean loss of the whole step, which such a loss has; it comes with the first pass.
    """

    inputs: Inputs
    losses: Tensor | None = None
    mean_loss: Tensor | None = None


def pass_values(inputs: Inputs, losses: Tensor | None = None, mean_loss: Tensor | None = None) -> PassValues:
    """Return the values of a pass, from which no gradient leads back to it.

    Args:
        inputs: what the loss was given.
        losses: its losses, if they are the pass's own.
        mean_loss: (1,) mean loss of the whole step.

    Returns:
        Detached values.
    """
    sums: dict[str, Any] = {
        name: None if getattr(inputs, name) is None else _sums(getattr(inputs, name)) for name in READ
    }
    losses, mean_loss = (None if value is None else value.detach() for value in (losses, mean_loss))
    return PassValues(Inputs(**sums, sources=inputs.sources), losses, mean_loss)


def _sums(values: Values) -> Values:
    """Return the sums alone, without single tokens."""
    kind = Answers if isinstance(values, Answers) else LogProbs
    return kind(*(getattr(values, f.name).detach() for f in fields(kind)))


def fetch(passes: Sequence[PassValues], others: Sequence[Tensor]) -> tuple[list[PassValues], list[float]]:
    """Copy values to the CPU; a GPU is waited for once.

    Args:
        passes: values of any number of passes, of any policies.
        others: tensors of one number each.

    Returns:
        The same values on the CPU, and the numbers.
    """
    tensors = [*(tensor for values in passes for tensor in _tensors(values)), *others]
    # one tensor holds all: fp32 is exact for log-probs, and for numbers of tokens below 2^24
    whole = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    parts = torch.split(whole, [tensor.numel() for tensor in tensors])
    copies = iter([part.view(t.shape).to(t.dtype) for part, t in zip(parts, tensors, strict=True)])
    fetched = [_rebuilt(values, copies) for values in passes]
    return fetched, [float(copy) for copy in copies]


def _tensors(values: PassValues) -> list[Tensor]:
    own = [values.losses, values.mean_loss]
    parts: list[Any] = [getattr(values.inputs, name) for name in READ]
    own += [getattr(part, f.name) for part in parts if part is not None for f in fields(part)]
    return [tensor for tensor in own if tensor is not None]


def _rebuilt(values: PassValues, copies: Iterator[Tensor]) -> PassValues:
    """Return the values with the next tensors in place of their own, in the order of `_tensors`."""
    losses, mean_loss = (None if own is None else next(copies) for own in (values.losses, values.mean_loss))
    parts: dict[str, Any] = {name: getattr(values.inputs, name) for name in READ}
    parts = {name: None if p is None else type(p)(*(next(copies) for _ in fields(p))) for name, p in parts.items()}
    return PassValues(replace(values.inputs, **parts), losses, mean_loss)
