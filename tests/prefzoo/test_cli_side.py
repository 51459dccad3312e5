"""`prefzoo run` with variants side by side: the same files as alone, and what is said where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_cli import place, prefzoo  # noqa: F401 - `place` is a fixture

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, max_length: 300}
train: {batch: 4, steps: 3, learning_rate: 1e-3, precision: fp32, lora: {rank: 2}, side_by_side: on}
variants:
  dpo:
  v0.1: {loss: ipo, train: {learning_rate: 1e-2}}
  kto:
"""


@pytest.fixture
def side(place: Path) -> Path:  # noqa: F811
    (place / "r.yaml").write_text(RECIPE)
    return place


@pytest.mark.slow
def test_the_same_results_as_one_after_another(
    side: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    out = capsys.readouterr().out
    assert "training dpo, v0.1, kto side by side: done" in out and "training dpo: " not in out
    off = ("--set", "train.side_by_side=off")
    assert prefzoo(monkeypatch, "run", "r.yaml", *off) == 0
    assert capsys.readouterr().out.count("already trained with these settings; reused") == 3  # no number depends on it
    assert prefzoo(monkeypatch, "run", "r.yaml", *off, "--results", "alone") == 0
    assert "side by side" not in capsys.readouterr().out
    for name in ("dpo", "v0.1", "kto"):
        one, two = (side / folder / "tiny" / name for folder in ("results", "alone"))
        assert sorted(p.relative_to(one) for p in one.rglob("*")) == sorted(p.relative_to(two) for p in two.rglob("*"))
        ours, theirs = (load_file(f / "checkpoint" / "adapter_model.safetensors") for f in (one, two))
        assert ours.keys() == theirs.keys()
        assert all((ours[n] - theirs[n]).abs().max() < 1e-4 for n in ours)
        assert any(v.abs().max() > 0 for n, v in ours.items() if "lora_B" in n)  # it was trained
        for a, b in zip(*((f / "metrics.jsonl").read_text().splitlines() for f in (one, two)), strict=True):
            assert {k: v for k, v in json.loads(a).items() if k != "rewards/accuracies"} == pytest.approx(
                {k: v for k, v in json.loads(b).items() if k != "rewards/accuracies"}, rel=1e-4, abs=1e-4
            )
        first, second = (json.loads((f / "result.json").read_text()) for f in (one, two))
        assert first["costs"].pop("variants_together") == 3.0 and first["costs"].keys() == second["costs"].keys()
        assert first["key"] == second["key"] and first["train"] == second["train"]


@pytest.mark.slow
def test_what_cannot_go_together_goes_one_after_another(
    side: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head = ("--set", "train.lora.targets=[lm_head]", "--set", "train.steps=1")
    assert prefzoo(monkeypatch, "run", "r.yaml", *head) == 0
    out = capsys.readouterr().out
    printed = (
        "dpo, v0.1, kto: cannot train side by side: an adapter on the output head is added to its weight, of which"
    )
    assert printed in " ".join(out.split()) and "training kto: done" in out
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "variants.dpo.train.lora=null", "--set", "train.steps=1") == 0
    out = capsys.readouterr().out
    assert "dpo: train.side_by_side: needs train.lora; trained alone" in out
    assert "training v0.1, kto side by side: done" in out


@pytest.mark.slow
def test_one_that_diverges_fails_alone_and_the_others_are_kept(
    side: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wild: tuple[Any, ...] = ("--set", "variants.kto.train={learning_rate: 1e38, weight_decay: 1e38}")
    assert prefzoo(monkeypatch, "run", "r.yaml", *wild) == 3
    printed = capsys.readouterr().out
    assert "kto failed: kto: the loss is nan at step 2; lower train.learning_rate" in printed
    folder = side / "results" / "tiny"
    assert [(folder / name / "result.json").exists() for name in ("dpo", "v0.1", "kto")] == [True, True, False]
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    out = capsys.readouterr().out
    assert out.count("already trained with these settings; reused") == 2 and "training kto: done" in out
