"""A model that is cast to bf16 is the one that loading in bf16 gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from prefzoo.engine import base_model, models
from prefzoo.engine.base_model import Base
from prefzoo.engine.precision import answering_key, to_bf16


def test_weights_are_cast_and_the_frequencies_of_rotary_positions_are_not(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    for part in (tiny_model, tiny_tokenizer):
        part.save_pretrained(tmp_path)
    loaded, cast = models.load(str(tmp_path), Path(), dtype=torch.bfloat16)[0], to_bf16(tiny_model)
    assert cast is tiny_model and cast.dtype == torch.bfloat16
    for theirs, ours in ((loaded.named_parameters, cast.named_parameters), (loaded.named_buffers, cast.named_buffers)):
        expected, values = dict(theirs()), dict(ours())
        assert expected and expected.keys() == values.keys()
        assert all(value.dtype == values[name].dtype for name, value in expected.items())
        assert all(torch.equal(value, values[name]) for name, value in expected.items())


def test_the_base_answers_with_exact_positions(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = {name: value.clone() for name, value in tiny_model.named_buffers()}
    monkeypatch.setattr(base_model, "native_bf16", lambda: True)
    low = Base(lambda: tiny_model).answering
    assert low.dtype == torch.bfloat16 and exact
    assert all(torch.equal(value, exact[name]) for name, value in low.named_buffers())


def test_answers_of_rounded_positions_are_not_read_again() -> None:
    assert answering_key(torch.float32) == "torch.float32" and answering_key(torch.bfloat16) != "torch.bfloat16"
