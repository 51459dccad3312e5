"""Frozen weights in bf16: the same bits under autocast, in half the room; and a base that is there when it is read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from first_fast import first_fast
from one_policy import train_one
from torch import Tensor, nn

from prefzoo import losses
from prefzoo.data.tokens import TokenPair
from prefzoo.engine import base_model, models, reference_logprobs
from prefzoo.engine.base_model import Base, load_policy
from prefzoo.engine.frozen_bf16 import cast_frozen_layers
from prefzoo.recipe.sections import Lora, Train
from prefzoo.training.job import Job, with_reference

PAIRS = [TokenPair([5 + i, 6, 7], [8, 9 + i, 10], [11, 12 + i], i) for i in range(8)]


def linear_dtypes(model: Any) -> set[torch.dtype]:
    return {m.weight.dtype for m in model.modules() if type(m) is nn.Linear and not m.weight.requires_grad}


def trained(model: Any, folder: Path, *, lean: bool, **lora: Any) -> tuple[bytes, dict[str, Tensor]]:
    """The log and the adapter of a bf16 training from a lean base and policy, or from fat ones."""
    train = Train(batch=4, steps=3, learning_rate=1e-2, precision="bf16", lora=Lora(rank=4, **lora))
    loss, base = losses.get("dpo"), Base(lambda: copy.deepcopy(model), frozen_bf16=lean)
    job = with_reference(
        Job(loss, loss.Params(), train, 0, PAIRS, "shared", bf16=True), base,
        lambda rows, scored, kind, passes: reference_logprobs.logprobs(
            base.model, rows, "shared", kind, bf16=True, passes=passes[0]
        ),
    )  # fmt: skip
    assert (torch.bfloat16 in linear_dtypes(base.model)) == lean
    policy = load_policy(lambda quantize: copy.deepcopy(model), train, bf16=lean, seed=0)
    assert (torch.bfloat16 in linear_dtypes(policy)) == lean
    train_one(job, policy, folder / "metrics.jsonl")
    adapter = {name: p.detach() for name, p in policy.named_parameters() if p.requires_grad}
    return (folder / "metrics.jsonl").read_bytes(), adapter


@pytest.mark.parametrize("lora", first_fast([{}, {"dropout": 0.3}, {"targets": ["q_proj", "lm_head"]}]), ids=str)
@pytest.mark.parametrize("tied", first_fast([False, True]))
def test_a_training_on_lean_weights_is_the_same_to_the_last_bit(
    lora: dict[str, Any], tied: bool, tiny_model: Any, tmp_path: Path
) -> None:
    if tied:
        tiny_model.config.tie_word_embeddings = True
        tiny_model.tie_weights()
    (fat, weights), (lean, others) = (trained(tiny_model, tmp_path, lean=on, **lora) for on in (False, True))
    assert lean == fat
    assert all(torch.equal(others[name], value) for name, value in weights.items())


def test_what_is_read_in_fp32_stays_so(tiny_model: Any) -> None:
    tiny_model.requires_grad_(False)
    before = {name: p.clone() for name, p in tiny_model.named_parameters()}
    assert cast_frozen_layers(tiny_model)
    small = {name for name, p in tiny_model.named_parameters() if p.dtype == torch.bfloat16}
    assert small == {name for name in before if name.endswith("_proj.weight") or name == "lm_head.weight"}
    assert all(torch.equal(p, before[n]) for n, p in tiny_model.named_parameters() if n not in small)


def test_what_is_trained_stays_as_it_is(tiny_model: Any) -> None:
    assert cast_frozen_layers(tiny_model)
    assert {p.dtype for p in tiny_model.parameters()} == {torch.float32}


class Exact(nn.Module):
    """A layer that reads its weight in fp32 whatever the precision around it; it may convert it, or fail."""

    def __init__(self, inner: nn.Linear, convert: bool) -> None:
        super().__init__()
        self.inner, self.convert = inner, convert

    def forward(self, x: Tensor) -> Tensor:
        weight = self.inner.weight
        with torch.autocast("cpu", enabled=False):
            return nn.functional.linear(x.float(), weight.float() if self.convert else weight)


@pytest.mark.parametrize("convert", [True, False])
def test_a_layer_that_needs_fp32_is_noticed_and_the_model_loaded_again(tiny_model: Any, convert: bool) -> None:
    for layer in tiny_model.model.layers:
        layer.self_attn.o_proj = Exact(layer.self_attn.o_proj, convert)
    loads = []

    def load(quantize: str | None = None) -> Any:
        loads.append(quantize)
        return copy.deepcopy(tiny_model)

    base = Base(load, frozen_bf16=True)
    assert linear_dtypes(base.model) == {torch.float32} and len(loads) == 2
    base.drop()
    assert linear_dtypes(base.model) == {torch.float32} and len(loads) == 3  # known by now
    train = Train(precision="bf16", lora=Lora(rank=2, targets=["q_proj"]))
    assert linear_dtypes(load_policy(load, train, bf16=True, seed=0)) == {torch.float32} and len(loads) == 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_stored_in_half_precision_stay_so_and_give_the_same_bits(tiny_model: Any, dtype: torch.dtype) -> None:
    stored = copy.deepcopy(tiny_model).to(dtype)
    wide = copy.deepcopy(stored).float()
    train = Train(precision="bf16", lora=Lora(rank=2, targets=["q_proj"]))
    for made_of in (
        lambda model: Base(lambda: copy.deepcopy(model), frozen_bf16=True).model,
        lambda model: load_policy(lambda quantize: copy.deepcopy(model), train, bf16=True, seed=0),
    ):
        one, two = made_of(wide), made_of(stored)
        dtypes = [{name: p.dtype for name, p in model.named_parameters()} for model in (one, two)]
        assert dtypes[0] == dtypes[1] and torch.bfloat16 in dtypes[0].values()
        ids = torch.arange(12)[None]
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            assert torch.equal(one(input_ids=ids).logits, two(input_ids=ids).logits)


def test_a_hash_does_not_depend_on_the_precision_in_which_weights_are_read(tiny_model: Any) -> None:
    stored = copy.deepcopy(tiny_model).to(torch.bfloat16)
    wide = copy.deepcopy(stored).float()
    wide.config.dtype, stored.config.dtype = torch.float32, torch.bfloat16
    assert models.fingerprint(stored) == models.fingerprint(wide) != models.fingerprint(tiny_model)


def test_a_base_whose_weights_were_rounded_is_loaded_anew(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    def load() -> Any:
        loads.append(1)
        return copy.deepcopy(tiny_model)

    for native, expected in ((False, 1), (True, 2)):
        loads.clear()
        monkeypatch.setattr(base_model, "native_bf16", lambda native=native: native)
        base = Base(load)
        assert base.model is base.answering is base.answering
        assert base.answering.dtype == (torch.bfloat16 if native else torch.float32) and len(loads) == 1
        weights = next(base.model.parameters())
        assert torch.equal(weights, next(tiny_model.parameters())) and len(loads) == expected


def test_the_base_is_loaded_when_it_is_read(tiny_model: Any) -> None:
    loads = []

    def load() -> Any:
        loads.append(1)
        return copy.deepcopy(tiny_model)

    base = Base(load, loaded=load())
    assert base.model is base.model and len(loads) == 1
    assert not any(p.requires_grad for p in base.model.parameters())
    base.drop()
    assert len(loads) == 1
    assert torch.equal(next(base.model.parameters()), next(tiny_model.parameters())) and len(loads) == 2
