"""Where weights are read to: straight into a GPU's memory, where there is one with room and they stay whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from prefzoo.engine import models
from prefzoo.experiment.context import Experiment


@pytest.mark.parametrize(
    ("settings", "placed"),
    [
        ({}, True), ({"free": 1}, False), ({"device": "cpu"}, False), ({"sharded": "FSDP"}, False),
        ({"asked": False}, False),
    ],
    ids=str,
)  # fmt: skip
def test_weights_are_read_onto_the_device(
    settings: dict[str, Any], placed: bool, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device(settings.get("device", "cuda:0"))
    state = SimpleNamespace(device=device, is_main_process=True)
    monkeypatch.setattr(models, "process_state", lambda: state)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (settings.get("free", 1e12), 1e12))
    monkeypatch.setenv(f"ACCELERATE_USE_{settings.get('sharded', 'NOTHING')}", "true")
    load, maps = transformers.AutoModelForCausalLM.from_pretrained, []

    def from_pretrained(source: str, device_map: Any = None, **more: Any) -> Any:
        maps.append(device_map)
        return load(source, **more)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    models.load("model", run_folder, on_device=settings.get("asked", True))
    assert maps == [{"": device} if placed else None]


def test_checkpoints_of_whole_models_are_read_onto_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def load(*_: Any, on_device: bool = False, **__: Any) -> Any:
        asked.append(on_device)
        return torch.nn.Linear(1, 1), None

    monkeypatch.setattr(models, "load", load)
    experiment: Any = SimpleNamespace(recipe=SimpleNamespace(trust_remote_code=False, folder=tmp_path))
    for name in ("config.json", "adapter_config.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
        Experiment.load_checkpoint(experiment, tmp_path / name)
    assert asked == [True, False]
    Experiment.load_reference(experiment, "other")
    assert asked.pop()
