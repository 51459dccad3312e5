"""`keep`: weights that are no longer needed go once everything is measured, and whoever needs them is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from called import prefzoo

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, max_length: 300}
train: {batch: 4, steps: 2, learning_rate: 1e-3, precision: fp32}
variants:
  simpo:
  low: {loss: sft, train: {lora: {rank: 2}}}
evals: {prompts: "instruct:eval:2", max_new_tokens: 2, kl: 0}
"""


@pytest.fixture
def place(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (run_folder / "r.yaml").write_text(RECIPE)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    # what takes long and has tests of its own
    monkeypatch.setattr("prefzoo.experiment.pipeline.write_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("prefzoo.experiment.pipeline.play_round_robin", lambda *_, **__: "")
    monkeypatch.setattr("prefzoo.engine.base_model.release_memory", lambda **_: None)
    return run_folder


def weights(place: Path) -> set[str]:
    return {p.parents[1].name for p in (place / "results" / "tiny").glob("*/checkpoint/*.safetensors")}


@pytest.mark.slow
def test_what_is_not_kept_goes_and_is_neither_trained_nor_missed_without_a_word(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "keep=adapters") == 0
    assert weights(place) == {"low"} and "keep: adapters: " in capsys.readouterr().out
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "keep=none") == 0  # an ordinary run: the recipe changed
    out = capsys.readouterr().out
    assert "reused: simpo, low\n" in out and "training simpo" not in out and not weights(place)
    why = "the weights were removed after they were measured (keep: "
    for words in (
        ("push", "results/tiny/simpo", "--to", "me/tiny", "--dry-run"),
        ("eval", "results/tiny", "--suite", "instruct:eval:2"),
        ("eval", "results/tiny/simpo/checkpoint", "--suite", "instruct:eval:2"),
    ):
        assert prefzoo(monkeypatch, *words) == 2
        assert why in capsys.readouterr().err, words
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "evals.max_new_tokens=3") == 0  # they are needed again
    out = capsys.readouterr().out
    assert "trained again: simpo, low (its weights were removed" in out and weights(place) == {"simpo", "low"}


@pytest.mark.slow
def test_best_keeps_the_leader(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "keep=best") == 0
    assert len(weights(place)) == 1
