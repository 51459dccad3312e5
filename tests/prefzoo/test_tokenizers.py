"""A model's tokenizer is loaded alone: it is the one that comes with the model, and no weights are read."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo
from huggingface_hub import constants

from prefzoo.engine import models
from prefzoo.engine.tokenizers import load_tokenizer
from prefzoo.errors import UserError


def without_weights(folder: Path) -> None:
    """Make the weights of all models in a folder unreadable."""
    for path in folder.rglob("*.safetensors"):
        path.write_bytes(b"no weights")


def as_folder(place: Path) -> str:
    return "model"


def as_hub_id(place: Path) -> str:
    cached = place / "hub" / "models--org--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots").mkdir()
    (place / "model").rename(cached / "snapshots" / ("0" * 40))
    return "org/tiny"


def adapter(place: Path, *, own: bool) -> str:
    model, tokenizer = models.load("model", place)
    adapted = models.add_lora(model, rank=2, alpha=4.0, dropout=0.0, targets=["q_proj"], seed=0)
    if own:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template = "{{ messages }}"
    models.save(adapted, tokenizer, place / "adapter")
    if not own:
        for path in (place / "adapter").iterdir():
            if not path.name.startswith("adapter_"):
                path.unlink()
    return "adapter"


def as_adapter_with_its_own(place: Path) -> str:
    return adapter(place, own=True)


def as_adapter_without(place: Path) -> str:
    return adapter(place, own=False)


@pytest.mark.parametrize("kind", [as_folder, as_hub_id, as_adapter_with_its_own, as_adapter_without])
def test_it_is_the_models_and_no_weights_are_read(
    kind: Callable[[Path], str], in_run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(in_run_folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    spec = kind(in_run_folder)
    _, expected = models.load(spec, in_run_folder, merge=True)
    without_weights(in_run_folder)
    alone = load_tokenizer(spec, in_run_folder)
    assert models.tokenizer_hash(alone) == models.tokenizer_hash(expected)
    assert alone.pad_token == expected.pad_token


def test_data_reads_no_weights(
    in_run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_weights(in_run_folder)
    assert prefzoo(monkeypatch, "data", "r.yaml", "--json") == 0
    assert [one["kept"] for one in json.loads(capsys.readouterr().out)] == [8, 8]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("./elsewhere", "no such folder"),
        ("small.gguf", "no such file"),
        ("org/nowhere", "cannot be loaded (OSError"),
        ("empty", "holds no config.json"),
    ],
)
def test_an_absent_one_is_one_line(
    spec: str, reason: str, in_run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (in_run_folder / "empty").mkdir()
    with pytest.raises(UserError) as raised:
        load_tokenizer(spec, in_run_folder)
    [line] = raised.value.lines
    assert line.startswith(f"model {spec}: ") and reason in line


def test_its_padding_is_its_end_where_it_has_none(in_run_folder: Path, tiny_tokenizer: Any) -> None:
    tiny_tokenizer.pad_token = None
    tiny_tokenizer.save_pretrained(in_run_folder / "model")
    assert load_tokenizer("model", in_run_folder).pad_token == tiny_tokenizer.eos_token
