"""The optimisers that `train.optimizer` names, from torch and bitsandbytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from packaging.version import Version
from torch import Tensor, nn

from prefzoo.errors import UserError
from prefzoo.recipe.sections import Train
from prefzoo.runtime.versions import UNKNOWN, version_of

IN_BITSANDBYTES = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}
ON_CPUS, INSTALL = Version("0.50"), "pip install 'prefzoo[bitsandbytes]'"
MATRIX = 2  # dimensions of the weights that Muon updates


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside a model, AdamW for its embedding, head, norms and biases, as one optimiser.

    Muon's updates are scaled to the size of AdamW's (Liu 2025, arXiv:2502.16982), so that one learning rate suits both.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], others: Sequence[nn.Parameter], train: Train) -> None:
        settings: dict[str, Any] = {"lr": train.learning_rate, "weight_decay": train.weight_decay}
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **settings))
        if others:
            self._parts.append(torch.optim.AdamW(others, fused=True, **settings))
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update all weights by their own rule; `closure` is not called."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:  # else moments take its layout, which a resumed run would not have
                    p.grad = p.grad.contiguous()
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.state, part.param_groups = self.state, [group]  # `load_state_dict` makes new ones
            part.step()


def make_optimizer(model: Any, parameters: Sequence[nn.Parameter], train: Train) -> torch.optim.Optimizer:
    """Return the optimiser of a training, with the recipe's learning rate and weight decay and else its own defaults.

    Args:
        model: The policy, whose embedding and head Muon leaves to AdamW.
        parameters: What is trained of it.
        train: Names the optimiser.

    Returns:
        The optimiser.
    """
    settings: dict[str, Any] = {"lr": train.learning_rate, "weight_decay": train.weight_decay}
    if train.optimizer in IN_BITSANDBYTES:
        kind: type[torch.optim.Optimizer] = getattr(
            import_module("bitsandbytes").optim, IN_BITSANDBYTES[train.optimizer]
        )
        return kind(parameters, **settings)
    if train.optimizer == "adafactor":
        return torch.optim.Adafactor(parameters, **settings)
    if train.optimizer == "muon":
        outer = {id(p) for p in _outer_weights(model)}
        inner = [p for p in parameters if p.ndim == MATRIX and id(p) not in outer]
        chosen = {id(p) for p in inner}
        return MuonWithAdamW(inner, [p for p in parameters if id(p) not in chosen], train)
    return torch.optim.AdamW(parameters, fused=True, **settings)


def _outer_weights(model: Any) -> list[Tensor]:
    """Return the weights of a causal language model's embedding and head."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    modules = (causal.get_input_embeddings(), causal.get_output_embeddings())
    return [p for module in modules if module is not None for p in module.parameters()]


def check_optimizer(place: str, train: Train) -> None:
    """Check that this machine and this launch can use the optimiser of a training.

    Args:
        place: Where the recipe has the settings.
        train: The settings.

    Raises:
        UserError: A package or a GPU is missing, or the weights are to be sharded.
    """
    name, field = train.optimizer, f"{place}.optimizer"
    missing = _missing_for(name) if name in IN_BITSANDBYTES else []
    if missing:
        needs = " and ".join(missing)
        raise UserError(f"{field}: {name} needs {needs}, not found here; leave it out for adamw, or use adafactor")
    shards = [flag for flag in ("FSDP", "DEEPSPEED") if parse_flag_from_env(f"ACCELERATE_USE_{flag}")]
    if name != "adamw" and shards:
        raise UserError(
            f"{field}: {name} needs whole weights in every process, and {shards[0]} shards them; use adamw, or launch "
            f"with recipes/accelerate/ddp.yaml"
        )


def _missing_for(name: str) -> list[str]:
    """Return what an optimiser of bitsandbytes needs and this machine lacks: CPUs update in 8 bits since 0.50."""
    version = version_of("bitsandbytes")
    if name == "adamw_8bit" and not torch.cuda.is_available():
        new_enough = version is not None and version != UNKNOWN and Version(version) >= ON_CPUS
        return [] if new_enough else [f"bitsandbytes {ON_CPUS} or later ({INSTALL}), or an older one and an NVIDIA GPU"]
    missing = [] if version else [f"bitsandbytes ({INSTALL})"]
    return missing + ([] if torch.cuda.is_available() else ["an NVIDIA GPU"])
