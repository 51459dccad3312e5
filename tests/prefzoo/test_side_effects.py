"""Loading, scoring and training change a model's own modules only: transformers and other models see nothing of it."""

from __future__ import annotations

import copy
import gc
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import torch
from one_policy import ignore, train_one
from test_multi_lora import LORA, lora_job
from test_train import job
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM
from transformers.utils import logging

from prefzoo.data.batches import collate
from prefzoo.engine import models, packed_attention
from prefzoo.engine.logprobs import score
from prefzoo.training.loop import train
from prefzoo.training.member import Member
from prefzoo.training.multi_lora import adapted_layers

LIBRARIES = ("transformers.", "peft.", "torch.nn.")


def functions() -> dict[str, Any]:
    """Every function and method of the libraries' modules that are imported by now, by name."""
    return dict(pair for name in sorted(sys.modules) if name.startswith(LIBRARIES) for pair in functions_of(name))


def functions_of(module: str) -> Iterator[tuple[str, Any]]:
    for name, value in vars(sys.modules[module]).items():
        if isinstance(value, FunctionType):
            yield f"{module}.{name}", value
        elif isinstance(value, type) and value.__module__ == module:
            yield from ((f"{module}.{name}.{part}", own) for part, own in vars(value).items() if callable(own))


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    values: torch.Tensor = model(input_ids=torch.arange(4, 40)[None]).logits
    return values


def use(folder: Path, place: Path) -> None:
    """Load a model, score with it, train it alone, and train two adapters on it."""
    model, _ = models.load(str(folder), Path())
    this = job(model)
    assert torch.isfinite(score(model, collate(this.pairs[:4], "shared", pad=0)).chosen).all()
    train_one(this, copy.deepcopy(model), place / "one.jsonl")
    jobs = [lora_job(model, name) for name in ("dpo", "ipo")]
    members = [Member(each, place / f"{i}.jsonl") for i, each in enumerate(jobs)]
    train(members, models.add_lora(model, **LORA, seed=0), ignore)


def test_transformers_is_as_it_was(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    for name in ("peft.tuners.lora.layer", "transformers.models.llama.modeling_llama"):
        importlib.import_module(name)
    other = plain(tmp_path / "model")
    before, expected, progress = functions(), logits(other), logging.is_progress_bar_enabled()
    assert len(before) > 1000
    use(tmp_path / "model", tmp_path)
    after = functions()
    assert [name for name in before if after[name] is not before[name]] == []
    assert torch.equal(logits(other), expected) and torch.equal(logits(plain(tmp_path / "model")), expected)
    assert logging.is_progress_bar_enabled() == progress


@pytest.mark.slow
def test_the_attention_is_registered_as_long_as_a_model_uses_it(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "NAME", "tested")

    def registered() -> bool:
        gc.collect()
        values = {packed_attention.NAME in table() for table in (AttentionInterface, AttentionMaskInterface)}
        assert len(values) == 1
        return values.pop()

    model = copy.deepcopy(tiny_model)
    assert not registered()
    packed_attention.install(model)
    decoder = copy.deepcopy(model).model  # of a copy that is gone
    del model
    assert registered()
    assert torch.isfinite(decoder(input_ids=torch.arange(4, 8)[None]).last_hidden_state).all()
    del decoder
    assert not registered()


@pytest.mark.parametrize("breaks", [False, True])
def test_adapted_layers_have_their_own_forward_again(breaks: bool, tiny_model: Any, tmp_path: Path) -> None:
    """After a group, and after one that ends in the middle of a step."""
    jobs = [lora_job(tiny_model, name, steps=2) for name in ("dpo", "ipo")]
    model = models.add_lora(copy.deepcopy(tiny_model), **LORA, seed=0)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    members = [Member(each, tmp_path / f"{i}.jsonl") for i, each in enumerate(jobs)]

    def report(done: int, total: int, note: object) -> None:
        if breaks:
            raise KeyboardInterrupt

    try:
        policies = train(members, model, report)
    except KeyboardInterrupt:
        assert breaks
    else:
        assert not breaks
        for number in (0, 1):  # peft's own forward pass, with a trained adapter in it
            alone = models.add_lora(copy.deepcopy(tiny_model), **LORA, seed=0)
            train_one(jobs[number], alone, tmp_path / "alone.jsonl")
            torch.testing.assert_close(
                logits(policies.model(number).eval()), logits(alone.eval()), rtol=1e-3, atol=1e-3
            )
    assert not [name for name, layer in adapted_layers(model) if {"forward", "parts", "adapters"} & vars(layer).keys()]
    assert [name for name, p in model.named_parameters() if p.requires_grad] == trained
