"""vLLM in `run` and in `pairs`, through a module of the same surface."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from called import prefzoo
from vllm_stand_in import install, requests

from prefzoo.evals.generation import pairs, vllm

RECIPE = """\
name: r
model: model
data: {train: train.jsonl}
train: {batch: 4, steps: 2, learning_rate: 1e-2, precision: fp32}
variants: {dpo: , low: {loss: dpo, train: {lora: {rank: 2}}}}
evals: {prompts: talks.jsonl, judge: "own.py:longer", max_new_tokens: 6, kl: 2, engine: vllm}
"""
SYSTEM = {"role": "system", "content": "Be terse."}


@pytest.fixture
def place(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    talks = [{"prompt": [SYSTEM, {"role": "user", "content": f"name a river {i}"}]} for i in range(4)]
    (run_folder / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in talks))
    (run_folder / "own.py").write_text("def longer(instruction, output):\n    return len(output)\n")
    (run_folder / "r.yaml").write_text(RECIPE)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    return run_folder


@pytest.mark.slow
def test_a_run_is_answered_by_one_engine_for_the_base_and_its_adapters(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(place, monkeypatch)
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    asked = requests(place)
    engines = [(Path(one["model"]).parent.name, one["rank"]) for one in asked if "model" in one]
    assert sorted(engines) == [("dpo", 0), (place.name, 8)]
    adapters = [one["adapter"] for one in asked if "prompts" in one]
    assert adapters.count(None) == 2 and [a[2] for a in adapters if a] == [str(place / "results/r/low/checkpoint")]
    assert "answers of low by vLLM" in capsys.readouterr().out
    outputs = json.loads((place / "results/r/low/model_outputs.json").read_text())
    base = json.loads((place / "results/r/base/model_outputs.json").read_text())
    assert len(outputs) == 4 and outputs[0]["messages"][0] == SYSTEM
    assert [row["output"] for row in outputs] != [row["output"] for row in base]
    (place / "results/r/low/evals.json").unlink()
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    assert requests(place) == asked  # answers are cached
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "evals.engine=hf") == 0
    assert requests(place) == asked
    again = json.loads((place / "results/r/base/model_outputs.json").read_text())
    assert [row["output"] for row in again] != [row["output"] for row in base]


def test_without_vllm_a_recipe_that_asks_for_it_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    assert prefzoo(monkeypatch, "check", "r.yaml") == 2
    assert "evals.engine: vllm is not installed; pip install 'prefzoo[vllm]'" in capsys.readouterr().err
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", "evals.engine=tgi") == 2
    assert "evals.engine: must be 'hf' or 'vllm' (is 'tgi')" in capsys.readouterr().err
    words = ["pairs", "--model", "model", "--prompts", "talks.jsonl", "--engine", "vllm", "--out", "p.jsonl"]
    assert prefzoo(monkeypatch, *words) == 2
    assert "--engine: vllm is not installed" in capsys.readouterr().err


def test_pairs_are_sampled_by_vllm_and_a_killed_call_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(place, monkeypatch)
    monkeypatch.setattr(pairs, "CHUNK", 2)
    words = ["pairs", "--model", "model", "--prompts", "talks.jsonl", "--judge", "own.py:longer", "--n", "4"]
    words += ["--max-new-tokens", "8", "--engine", "vllm"]
    assert prefzoo(monkeypatch, *words, "--out", "whole.jsonl") == 0
    card = json.loads(Path("whole.jsonl.card.json").read_text())
    assert card["engine"] == "vllm 0.0.stand.in" and "--engine vllm" in card["command"] and card["answers"] == 16
    calls = [one for one in requests(place) if "prompts" in one]
    assert [len(one["prompts"]) for one in calls] == [8, 8] and len({s for c in calls for s in c["seeds"]}) == 16
    (place / "own.py").write_text(
        "calls = 0\ndef longer(instruction, output):\n    global calls\n    calls += 1\n"
        "    if calls > 9:\n        raise KeyboardInterrupt\n    return len(output)\n"
    )
    assert prefzoo(monkeypatch, *words, "--out", "cut.jsonl") == 130
    (place / "own.py").write_text("def longer(instruction, output):\n    return len(output)\n")
    before = len(requests(place))
    assert prefzoo(monkeypatch, *words, "--out", "cut.jsonl") == 0
    assert len(requests(place)) == before  # both chunks were sampled before the judge was killed
    assert Path("cut.jsonl").read_text() == Path("whole.jsonl").read_text()
    assert not list(place.glob(".*.partial"))
