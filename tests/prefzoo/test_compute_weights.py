"""bf16 copies of weights: the numbers of autocast to the last bit, fewer casts, and a model that is itself again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from test_engine import random_pairs
from torch import Tensor, nn

from prefzoo.data.batches import collate
from prefzoo.engine import models
from prefzoo.engine.compute_weights import half_precision_weights
from prefzoo.engine.frozen_bf16 import cast_frozen_layers
from prefzoo.engine.logprobs import score
from prefzoo.engine.precision import autocast, step_autocast

CPU = torch.device("cpu")


def grads_of_a_step(
    model: Any, weights: Callable[[Any], AbstractContextManager[None]]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Two passes, as in a step."""
    model.zero_grad()
    values = []
    with step_autocast(CPU, bf16=True), weights(model):
        for part in (random_pairs()[:2], random_pairs()[2:]):
            torch.manual_seed(0)
            with autocast(CPU, bf16=True):
                scored = score(model, collate(part, "shared", pad=0))
            values.append(scored.margin.detach())
            (scored.margin**2).sum().backward()
    return values, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def full(model: Any) -> Any:
    return model.train()


def checkpointed(model: Any) -> Any:
    model.activation_checkpointing_enable({"use_reentrant": False})
    return model.train()


def adapter(model: Any, dropout: float = 0.0) -> Any:
    model = models.add_lora(model, rank=2, alpha=4.0, dropout=dropout, targets="all-linear", seed=0).train()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(generator=torch.Generator().manual_seed(1))
    assert cast_frozen_layers(model)
    return model


def adapter_with_dropout(model: Any) -> Any:
    return adapter(model, 0.3)


def adapted_head(model: Any) -> Any:
    return models.add_lora(model, rank=2, alpha=4.0, dropout=0.0, targets=["lm_head", "q_proj"], seed=0).train()


@pytest.mark.parametrize("kind", [full, checkpointed, adapter, adapter_with_dropout, adapted_head])
def test_values_and_gradients_are_those_of_autocast(kind: Callable[[Any], Any], tiny_model: Any) -> None:
    model = kind(tiny_model)
    before = {name: p for name, p in model.named_parameters()}
    values, grads = grads_of_a_step(model, lambda _: nullcontext())
    others, other_grads = grads_of_a_step(model, lambda own: half_precision_weights(own, enabled=True))
    assert all(torch.equal(a, b) for a, b in zip(values, others, strict=True))
    assert grads.keys() == other_grads.keys() and grads
    assert [name for name in grads if not torch.equal(grads[name], other_grads[name])] == []
    after = {name: p for name, p in model.named_parameters()}
    assert all(after[name] is p for name, p in before.items()) and before.keys() == after.keys()


def test_autocast_keeps_no_copies_where_they_are_not_shared() -> None:
    """Of sharded weights they would be the whole model: a copy that was kept would be the old one after a change."""
    weight, x = nn.Parameter(torch.eye(4)), torch.ones(1, 4)
    for kept in (True, False):
        with step_autocast(CPU, bf16=kept):
            for _ in range(2):
                with autocast(CPU, bf16=True):
                    product = nn.functional.linear(x, weight)
                with torch.no_grad():
                    weight.mul_(2)
            assert bool((product == x * (weight.diagonal() / (4 if kept else 2)).detach()).all())
    assert torch.is_autocast_cache_enabled()


def test_products_read_copies_within_the_context_only(tiny_model: Any) -> None:
    layer, head = tiny_model.model.layers[0].mlp.up_proj, tiny_model.lm_head
    own = layer.weight
    with half_precision_weights(tiny_model, enabled=True):
        assert layer.weight.dtype == torch.bfloat16 and torch.equal(layer.weight, own.bfloat16())
        assert head.weight.dtype == torch.float32, "the engine casts the head itself"
    assert layer.weight is own and isinstance(layer.weight, nn.Parameter)
    with pytest.raises(KeyError), half_precision_weights(tiny_model, enabled=True):
        raise KeyError
    assert layer.weight is own
    with half_precision_weights(tiny_model, enabled=False):
        assert layer.weight is own


def test_frozen_models_have_no_copies(tiny_model: Any) -> None:
    frozen = copy.deepcopy(tiny_model).requires_grad_(False)
    with half_precision_weights(frozen, enabled=True):
        assert {p.dtype for p in frozen.parameters()} == {torch.float32}
