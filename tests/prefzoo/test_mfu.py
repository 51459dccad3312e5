"""The arithmetic of a training, worked by hand and beside torch's own count of a real pass."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_train import job
from torch.utils.flop_counter import FlopCounterMode

from prefzoo.data.batches import collate
from prefzoo.data.tokens import TokenPair
from prefzoo.engine import models
from prefzoo.engine.logprobs import score
from prefzoo.runtime.distributed import process_state
from prefzoo.training.mfu import peak_flops, throughput, training_flops

PAIR = TokenPair([1, 4, 5], [6, 7, 8, 3], [9, 3], 0)


def test_by_hand(tiny_model: Any) -> None:
    """9 tokens through two layers of q and o (32 x 32), k and v (32 x 16), three of 32 x 64; 6 scored, 340 words."""
    body = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    looks = 7 * 8 // 2 + 5 * 6 // 2 - 3 * 4 // 2  # prompt and chosen, prompt and rejected, less the prompt again
    expected = 6 * body * 9 + 6 * 340 * 32 * 6 + 12 * 2 * 32 * looks
    assert training_flops(job(tiny_model), tiny_model, [PAIR]) == expected
    apart = 6 * body * 12 + 6 * 340 * 32 * 6 + 12 * 2 * 32 * (7 * 8 // 2 + 5 * 6 // 2)
    assert training_flops(job(tiny_model, layout="packed"), tiny_model, [PAIR]) == apart


@pytest.mark.parametrize("lora", [False, True])
def test_beside_torchs_count(lora: bool, tiny_model: Any) -> None:
    """torch counts the masked half of attention, and the backward's tiles again; not the first layer's input."""
    pair = TokenPair([5] * 20, [6] * 60, [7] * 50, 0)
    model = copy.deepcopy(tiny_model)
    if lora:
        model = models.add_lora(model, rank=4, alpha=8.0, dropout=0.0, targets="all-linear", seed=0)
    with FlopCounterMode(display=False) as counter:
        scored = score(model, collate([pair], "packed", pad=0))
        (scored.chosen.sum() + scored.rejected.sum()).backward()
    result = training_flops(job(tiny_model, layout="packed"), model, [pair])
    assert result == pytest.approx(counter.get_total_flops(), rel=0.2)


def test_the_share_of_the_peak(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    process_state()  # of the real devices, before there seems to be a GPU
    this = job(tiny_model)
    sizes = [len(p.prompt + p.chosen + p.rejected) for p in this.pairs]
    tokens = sum(sizes[i] for step in this.steps for i in step)
    assert throughput(this, tiny_model, 2.0) == {"tokens_per_second": tokens / 2}  # of a CPU, no peak is known
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    assert peak_flops() == 989e12 and "flops_utilisation" not in throughput(this, tiny_model, 2.0)  # of fp32 neither
    result = throughput(replace(this, bf16=True), tiny_model, 2.0)["flops_utilisation"]
    flops = training_flops(this, tiny_model, [this.pairs[i] for step in this.steps for i in step])
    assert flops is not None and result == pytest.approx(flops / 2 / 989e12)
    for name, peak in (("NVIDIA H200", 989e12), ("NVIDIA H200 NVL", 835e12), ("NVIDIA H100 NVL", 835e12)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert peak_flops() == peak


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA A10G", 70e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA L40", 181e12),
        ("NVIDIA RTX A1000", None), ("Tesla T4", None),
    ],
)  # fmt: skip
def test_names_of_gpus(name: str, flops: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert peak_flops() == flops


def test_weights_of_another_kind_are_not_guessed_at(tiny_model: Any) -> None:
    tiny_model.model.layers[0].experts = torch.nn.Parameter(torch.zeros(2, 2, 2))
    assert training_flops(job(tiny_model), tiny_model, [PAIR]) is None
