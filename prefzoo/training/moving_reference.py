"""A reference that follows the policy during training: in steps (TR-DPO) or as a corrected average (BEMA).

With LoRA it shares the policy's frozen weights and has an adapter of its own, whose A and B follow the policy's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from prefzoo.recipe.sections import Sync
from prefzoo.runtime.sharding import gather_full_tensor


def frozen_twin(policy: Any, *, shares: bool = True) -> Any:
    """Return a copy of a policy whose trained weights are copied.

    Args:
        policy: A model with an adapter, before it is trained.
        shares: Whether the frozen weights are the same tensors, which takes no memory.

    Returns:
        The copy, in evaluation mode; nothing of it requires gradients.
    """
    shared = {id(p): p for p in policy.parameters() if shares and not p.requires_grad}
    return copy.deepcopy(policy, shared).requires_grad_(False).eval()


class MovingReference:
    r"""A live reference and the rule that it follows.

    Every `sync.every` steps, with trained weights $\theta_t$ after step t:

    - without `bema`, the reference moves by the share alpha towards $\theta_t$ (Gorbatovski 2024, arXiv:2404.09656),
      or with `when: before` towards $\theta_{t-1}$, the weights before the update (Liu 2025, arXiv:2509.24207);
    - with `bema`, an average moves by $\beta_t = (\rho + t)^{-\kappa}$ towards $\theta_t$, and the reference becomes
      the average plus $(\rho + t)^{-\eta}(\theta_t - \theta_0)$ (Block 2025, arXiv:2508.00180), where rho is `lag`,
      kappa `ema_power` and eta `bias_power`.
    """

    def __init__(self, live: nn.Module, policy: nn.Module, sync: Sync) -> None:
        """Start where the policy starts.

        Args:
            live: The reference model; it has the policy's weights.
            policy: The module whose parameters that require gradients are followed, before its first step.
            sync: The rule.
        """
        self.sync, self._live = sync, dict(live.named_parameters())
        self._policy = {name: p for name, p in policy.named_parameters() if p.requires_grad}
        self._start: dict[str, Tensor] = {}
        self._average: dict[str, Tensor] = {}
        if sync.bema is not None:
            self._start = {name: self._followed(name).clone() for name in self._policy}
            self._average = {name: value.clone() for name, value in self._start.items()}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of everything that a checkpoint holds of it."""
        for name in self._policy:
            yield f"live.{name}", self._live[name]
            if self._average:
                yield f"average.{name}", self._average[name]

    @torch.no_grad()
    def follow(self, step: int, when: str = "after") -> None:
        """Follow the policy, if it is time. All processes call this before and after each update of the weights.

        Args:
            step: The number of optimiser steps, with the one that is under way or was just made.
            when: Whether this is `before` or `after` the update of that step.
        """
        if when != self.sync.when or step % self.sync.every:
            return
        bema = self.sync.bema
        for name in self._policy:
            theirs, ours = self._live[name], self._followed(name)
            if bema is None:
                theirs.lerp_(ours, self.sync.alpha)
                continue
            average = self._average[name].lerp_(ours, (bema.lag + step) ** -bema.ema_power)
            theirs.copy_(average + (ours - self._start[name]) * (bema.lag + step) ** -bema.bias_power)

    def _followed(self, name: str) -> Tensor:
        live = self._live[name]
        return gather_full_tensor(self._policy[name]).to(live.device, live.dtype)
