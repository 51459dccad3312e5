"""The studies on a tiny model: displacement from checkpoints, and a study that runs in pieces and is killed between."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from called import pairs_text, prefzoo

from examples.studies import pieces
from examples.studies.__main__ import NUMBERS, main
from prefzoo.evals.boards.run_files import read_run

ONE = """\
name: one
model: model
seeds: [0, 1]
data: {train: one.jsonl, eval: test.jsonl, max_length: 300, too_long: cut}
train: {batch: 1, steps: 4, learning_rate: 1e-2, precision: fp32, lora: {rank: 2}}
variants: {dpo: {}, ipo: {}, simpo: {}}
"""
STUDY = """\
name: defaults
model: model
seeds: [0, 1]
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 2, learning_rate: 1e-2, precision: fp32, lora: {rank: 2}}
variants: {dpo: {beta: 0.1}, ipo: {tau: 0.1}, simpo: {gamma: 1.0}}
evals: {prompts: "instruct:eval:3", max_new_tokens: 4, equivalence: 5}
keep: none
"""


@pytest.mark.slow
def test_displacement_is_read_from_the_checkpoints(in_run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = {"prompt": "Say it", "chosen": "a", "rejected": "b"}
    (in_run_folder / "one.jsonl").write_text(json.dumps(pair) + "\n")
    (in_run_folder / "one.yaml").write_text(ONE)
    for name in ("01", "02"):
        words = ["--set", f'name="{name}"', "--results", "results/pairs"]
        assert prefzoo(monkeypatch, "run", "one.yaml", "-q", *words) == 0
    assert main(["displacement", "results/pairs/01", "one.yaml"]) == 0
    numbers = json.loads(Path("results/pairs/01", NUMBERS).read_text())["displacement"]
    assert len(numbers["trainings"]) == 6 and {row["variant"] for row in numbers["variants"]} == {"dpo", "ipo", "simpo"}
    for row in numbers["variants"]:
        assert row["seeds"] == 2 and row["chosen_low"] <= row["chosen_change"] <= row["chosen_high"]
        ways = [
            way for way in ("lowered", "raised", "undecided") if row["variant"] in numbers[f"chosen_{way}"].split(", ")
        ]
        assert ways == ["raised" if row["chosen_low"] > 0 else "lowered" if row["chosen_high"] < 0 else "undecided"]
        assert row["rejected_change"] < row["chosen_change"] and 0 < row["chosen_before"] < 1
    assert main(["predicted", "results/pairs", "one.yaml", "--out", "out"]) == 0
    predicted = json.loads(Path("out", NUMBERS).read_text())["predicted"]
    assert len(predicted["pairs"]) == 6 and len(predicted["correlations"]) == 12
    assert predicted["pairs"][0]["ches"] == predicted["pairs"][3]["ches"]
    assert all(row["pairs"] == 2 and row["fell"] in (0, 2) for row in predicted["fell"])  # the two runs are the same


def test_a_piece_that_fails_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    done = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(pieces, "subprocess", SimpleNamespace(run=lambda *_, **__: done))
    monkeypatch.setattr(pieces, "RESULTS", tmp_path)
    assert main(["run", "noise_0"]) == 2
    assert capsys.readouterr().err.endswith("noise_0.yaml ended with 3; the same command goes on\n")


@pytest.mark.slow
def test_a_study_in_pieces_is_one_run_whose_finished_trainings_need_no_weights(
    in_run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_run_folder / "train.jsonl").write_text(pairs_text(range(12)))
    (in_run_folder / "defaults.yaml").write_text(STUDY)
    monkeypatch.setattr(pieces, "RECIPES", in_run_folder)
    monkeypatch.setattr(pieces, "RESULTS", in_run_folder / "results")
    monkeypatch.setattr(pieces, "_call", lambda *words: prefzoo(monkeypatch, *words))
    monkeypatch.setitem(pieces.PIECES, "defaults", 2)
    assert main(["run", "defaults", "--minutes", "0"]) == 4
    assert "0 minutes are over at piece 2 of 2" in capsys.readouterr().out
    folder = in_run_folder / "results" / "defaults"
    before = {path: path.read_bytes() for path in folder.glob("*/result.json")}
    assert len(before) == 4 and not list(folder.rglob("*.safetensors"))
    assert main(["run", "defaults"]) == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    run = read_run(folder)
    assert len(run.finals) == 6 and not run.unfinished and not list(folder.parent.glob("*@*"))
    numbers = json.loads((folder / NUMBERS).read_text())
    assert {row["variant"] for row in numbers["variants"]} == {"dpo", "ipo", "simpo"}
    rows = numbers["fluency"]["models"]
    assert {row["variant"] for row in rows} == {"base", "dpo", "ipo", "simpo"}
    assert numbers["fluency"]["base"] in rows
    assert all(row["low"] <= row["value"] <= row["high"] < 0 for row in rows)
    assert (folder / "ranking.png").is_file()
