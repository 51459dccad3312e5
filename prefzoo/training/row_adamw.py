"""AdamW for weights that lie in one row of memory: one kernel for all of them, a state for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prefzoo.recipe.sections import Train


class RowAdamW:
    """AdamW of one adapter of a stack. Its numbers are those of AdamW over the single weights.

    Attributes:
        inner: torch's optimiser of the whole row.
        state: the state of each weight, by parameter, as in an optimiser of the single weights.
    """

    def __init__(self, row: nn.Parameter, parameters: Mapping[nn.Parameter, slice], train: Train) -> None:
        """Start without state.

        Args:
            row: (P,) all weights; its gradient is set before each step.
            parameters: each weight as a view of the row, and where it lies in it.
            train: learning rate and weight decay.
        """
        self.inner = torch.optim.AdamW([row], lr=train.learning_rate, weight_decay=train.weight_decay, fused=True)
        self.state = _States(self.inner, row, parameters)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The settings, as an optimiser of torch's has them."""
        return self.inner.param_groups

    def step(self) -> None:
        """Update the weights."""
        self.inner.step()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self.inner.zero_grad()


class _States:
    """The state of a row's optimiser, read and written weight by weight."""

    def __init__(self, inner: torch.optim.AdamW, row: nn.Parameter, slots: Mapping[nn.Parameter, slice]) -> None:
        self._inner, self._row, self._slots = inner, row, slots

    def __getitem__(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        at, whole = self._slots[parameter], self._inner.state.get(self._row, {})
        return {name: v[at].view_as(parameter) if v.ndim else v.clone() for name, v in whole.items()}

    def __setitem__(self, parameter: nn.Parameter, values: Mapping[str, Tensor]) -> None:
        at, whole = self._slots[parameter], self._inner.state[self._row]
        for name, value in values.items():
            if value.ndim:
                whole.setdefault(name, torch.zeros_like(self._row))[at] = value.flatten()
            else:
                whole[name] = value
