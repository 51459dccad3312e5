"""Checkpoints of one run are read into one model: each gives the numbers that it gives when it is loaded alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prefzoo.engine import models
from prefzoo.experiment.checkpoint_reader import CheckpointReader

IDS = torch.arange(5, 40)[None]


class Counted:
    """Loads models, and counts."""

    def __init__(self) -> None:
        self.loads = 0

    def __call__(self, folder: Path) -> Any:
        self.loads += 1
        return models.load(str(folder), Path())[0]


@torch.no_grad()
def logits(model: Any) -> Tensor:
    out: Tensor = model(input_ids=IDS).logits
    return out.clone()


def checkpoints(model: Any, tokenizer: Any, folder: Path, count: int) -> list[Path]:
    folders = [folder / str(i) for i in range(count)]
    for i, one in enumerate(folders):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for p in other.parameters():
                p.add_(0.01 * i * p)
        other.save_pretrained(one, max_shard_size="50KB" if i % 2 else "1GB")
        tokenizer.save_pretrained(one)
    return folders


@pytest.mark.parametrize("tied", [False, True])
def test_one_model_is_loaded_for_all_checkpoints(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path, tied: bool
) -> None:
    if tied:
        tiny_model.config.tie_word_embeddings = True
        tiny_model.tie_weights()
    folders = checkpoints(tiny_model, tiny_tokenizer, tmp_path, 3)
    expected = [logits(models.load(str(folder), Path())[0]) for folder in folders]
    load = Counted()
    reader = CheckpointReader(load)
    for i in (0, 1, 2, 0):
        model = reader.read(folders[i])
        assert torch.equal(logits(model), expected[i]) and model.dtype == torch.float32 and not model.training
        model.to(torch.bfloat16)  # as it answers: rotary frequencies, which no file has, are rounded too
    assert load.loads == 1
    kept = (folders[1] / "config.json").read_bytes()
    assert torch.equal(logits(models.load(str(folders[0]), Path())[0]), expected[0]) and kept  # no file was written to


def test_what_does_not_fit_is_loaded(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    first, other = checkpoints(tiny_model, tiny_tokenizer, tmp_path, 2)
    load = Counted()
    reader = CheckpointReader(load)
    reader.read(first)
    (other / "config.json").write_text((other / "config.json").read_text().replace("256", "512"))  # longer contexts
    assert reader.read(other).config.max_position_embeddings == 512 and load.loads == 2


def adapters(model: Any, tokenizer: Any, base: Path, folder: Path, ranks: list[int]) -> list[Path]:
    folders = [folder / f"adapter-{i}" for i in range(len(ranks))]
    for i, (one, rank) in enumerate(zip(folders, ranks, strict=True)):
        policy = models.add_lora(copy.deepcopy(model), rank=rank, alpha=4, dropout=0.0, targets=["q_proj"], seed=i)
        policy.peft_config["default"].base_model_name_or_path = str(base)
        with torch.no_grad():
            for name, p in policy.named_parameters():
                p.add_(0.1 * (i + 1) if "lora_B" in name else 0)
        policy.save_pretrained(one)
        tokenizer.save_pretrained(one)
    return folders


@pytest.mark.slow
def test_adapters_share_a_base_until_it_is_rounded(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    (base,) = checkpoints(tiny_model, tiny_tokenizer, tmp_path, 1)
    folders = adapters(tiny_model, tiny_tokenizer, base, tmp_path, [2, 2, 4])
    expected = [logits(models.load(str(folder), Path())[0]) for folder in folders]
    load = Counted()
    reader = CheckpointReader(load)
    for i in (0, 1, 0):
        assert torch.equal(logits(reader.read(folders[i])), expected[i])
    assert load.loads == 1
    assert torch.equal(logits(reader.read(folders[2])), expected[2]) and load.loads == 2  # another rank
    model = reader.read(folders[2])
    assert load.loads == 2
    model.to(torch.bfloat16)  # as it answers where the machine has bf16
    assert torch.equal(logits(reader.read(folders[2])), expected[2]) and load.loads == 3
    assert torch.equal(logits(reader.read(base)), logits(models.load(str(base), Path())[0])) and load.loads == 4
