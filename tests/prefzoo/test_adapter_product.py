"""Adapted layers in few products: peft's numbers and gradients, only while a policy trains, and only where they fit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from emulated_gpu import emulated_gpu
from test_engine import random_pairs
from torch import Tensor

from prefzoo.data.batches import collate
from prefzoo.engine import adapter_product, fused_ops, models
from prefzoo.engine.adapter_product import fused_adapters
from prefzoo.engine.frozen_bf16 import cast_frozen_layers
from prefzoo.engine.logprobs import score


@pytest.fixture(autouse=True)
def on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_product, "DEVICES", ("cpu",))


def with_adapter(model: Any, **lora: Any) -> Any:
    own = {"rank": 2, "alpha": 3.0, "dropout": 0.0, "targets": "all-linear", "seed": 0} | lora
    model = models.add_lora(copy.deepcopy(model), **own).train()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    return model


def margins_and_gradients(model: Any, *, fused: bool, bf16: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(0)
    with fused_adapters(model, enabled=fused), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        margin = score(model, collate(random_pairs(), "shared", pad=0)).margin
    (margin**2).sum().backward()
    return margin.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("lora", [{}, {"dropout": 0.3}, {"targets": ["q_proj", "down_proj"]}], ids=str)
def test_numbers_and_gradients_are_those_of_peft(lora: dict[str, Any], tiny_model: Any) -> None:
    (expected, slopes), (margin, own) = (
        margins_and_gradients(with_adapter(tiny_model, **lora), fused=fused) for fused in (False, True)
    )
    torch.testing.assert_close(margin, expected, rtol=1e-5, atol=1e-5)
    assert slopes.keys() == own.keys() and slopes
    for name, slope in slopes.items():
        torch.testing.assert_close(own[name], slope, rtol=1e-4, atol=1e-4 * float(slope.abs().max()))


def test_in_bf16_it_is_as_near_to_fp32_as_peft(tiny_model: Any) -> None:
    exact, _ = margins_and_gradients(with_adapter(tiny_model), fused=False)
    errors = []
    for fused in (False, True):
        model = with_adapter(tiny_model)
        assert cast_frozen_layers(model)
        margin, slopes = margins_and_gradients(model, fused=fused, bf16=True)
        errors.append(float((margin - exact).abs().mean()))
        assert all(slope.dtype == torch.float32 for slope in slopes.values())
    assert errors[1] <= 1.5 * errors[0]


def test_a_fresh_adapter_changes_no_bit(tiny_model: Any) -> None:
    batch = collate(random_pairs(), "shared", pad=0)
    plain = score(tiny_model, batch)
    model = models.add_lora(
        copy.deepcopy(tiny_model), rank=2, alpha=3.0, dropout=0.0, targets="all-linear", seed=0
    )  # fmt: skip
    with fused_adapters(model):
        adapted = score(model, batch)
    assert torch.equal(adapted.chosen, plain.chosen) and torch.equal(adapted.rejected, plain.rejected)


def test_layers_are_themselves_again_afterwards(tiny_model: Any) -> None:
    model = with_adapter(tiny_model)
    layers = [m for m in model.modules() if hasattr(m, "lora_A")]
    with fused_adapters(model):
        assert all("forward" in vars(layer) for layer in layers)
    assert not any("forward" in vars(layer) for layer in layers)
    assert all(layer.cast_input_dtype_enabled for layer in layers)
    with fused_adapters(model, enabled=False):
        assert not any("forward" in vars(layer) for layer in layers)


def test_a_disabled_adapter_is_left_out(tiny_model: Any) -> None:
    model, batch = with_adapter(tiny_model), collate(random_pairs(), "shared", pad=0)
    with fused_adapters(model), model.disable_adapter():
        assert torch.equal(score(model, batch).chosen, score(tiny_model, batch).chosen)


@pytest.mark.parametrize("keys", [1, 2, 4])
def test_queries_and_keys_are_rotated_together_as_one_by_one(keys: int) -> None:
    gen = torch.Generator().manual_seed(0)
    angle = torch.randn(1, 5, 4, generator=gen).repeat(1, 1, 2)

    def rotated() -> list[Tensor]:
        own = torch.Generator().manual_seed(1)
        query, key = (torch.randn(1, heads, 5, 8, generator=own, requires_grad=True) for heads in (4, keys))
        q, k = fused_ops.rotate(query, key, angle.cos(), angle.sin())
        (q.sin().sum() + k.cos().sum()).backward()
        assert query.grad is not None and key.grad is not None
        return [q.detach(), k.detach(), query.grad, key.grad]

    expected = rotated()
    with emulated_gpu():
        own = rotated()
    assert all(torch.equal(a, b) for a, b in zip(own, expected, strict=True))
