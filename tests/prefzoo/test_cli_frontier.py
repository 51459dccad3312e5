"""A whole run with a frontier, a KL and a round robin under a user's judge; and what a second start does again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from prefzoo.cli import main
from prefzoo.evals.boards.run_files import read_run
from prefzoo.training.snapshots import Snapshots

RECIPE = """\
name: far
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 2, steps: 6, learning_rate: 1e-2, precision: fp32}
variants:
  dpo: {loss: dpo + 0.2*sft}
  simpo:
evals: {prompts: prompts.jsonl, judge: "own.py:longer", max_new_tokens: 6, kl: 4, frontier: 3, round_robin: true}
"""
OWN = """
def longer(instruction, output_1, output_2):
    return 1.5 + 0.5 * ((len(output_2) > len(output_1)) - (len(output_2) < len(output_1)))
"""


@pytest.fixture
def place(in_run_folder: Path) -> Path:
    prompts = [{"prompt": f"Tell {i}"} for i in range(6)]
    (in_run_folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    (in_run_folder / "own.py").write_text(OWN)
    (in_run_folder / "r.yaml").write_text(RECIPE)
    return in_run_folder


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prefzoo", "run", "r.yaml", *words])
    try:
        main()
    except SystemExit as e:
        return int(e.code or 0)
    return 0


@pytest.mark.slow
def test_a_run_and_again(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch) == 0, capsys.readouterr().out
    results = read_run(place / "results" / "far")
    table = results.frontier
    assert table.groupby("variant").step.apply(list).to_dict() == {"dpo": [0, 2, 4, 6], "simpo": [0, 2, 4, 6]}
    start = table[table.step == 0]
    assert (
        (start[["kl", "kl_low", "kl_high"]] == 0).all(axis=None)
        and (start.reward == 0.5).all()
        and set(table.metric) == {"win_rate"}
    )
    assert table.reward.between(0, 1).all() and (table[table.step > 0].kl != 0).all()
    base, last = (
        json.loads((place / f"results/far/{name}/frontier/step-{step:08d}.json").read_text())["answers"]
        for name, step in (("base", 0), ("dpo", 6))
    )
    won = [0.5 + 0.5 * ((len(b) > len(a)) - (len(b) < len(a))) for a, b in zip(base, last, strict=True)]
    assert len(won) == 4 and table[(table.variant == "dpo") & (table.step == 6)].reward.item() == sum(won) / 4
    assert "Win rate along the training" in (place / "results/far/report.html").read_text()
    assert not list(place.glob("results/far/*/snapshots"))
    dpo = results.variants["dpo"].measured
    assert dpo is not None and len(dpo.kl) == 4 and dpo.beta == 0.1 and len(dpo.tokens) == 6
    assert set(dpo.pairs) == {"length_normalised_accuracy", "chosen_displacement", "entropy"}
    assert {len(v) for v in dpo.pairs.values()} == {len(dpo.margins)} == {8}
    long = results.long.set_index(["variant", "metric"])
    for metric in ("kl", "length_ratio", "calibration_error", "entropy", "chosen_displacement", "win_rate_lc"):
        row = long.loc["dpo", metric]
        assert row.low <= row.value <= row.high, metric
    assert (long.loc["dpo", "kl"].baseline, long.loc["dpo", "entropy"].suite[:10]) == ("base", "test.jsonl")
    assert results.round_robin is not None and sorted(results.round_robin["variants"]) == ["base", "dpo", "simpo"]
    board = (place / "results/far/leaderboard.md").read_text()
    assert "| rank | variant | kl |" not in board and "calibration_error | chosen_displacement | entropy | kl" in board
    before = pd.read_csv(place / "results/far/frontier.csv")
    capsys.readouterr()
    monkeypatch.setattr("prefzoo.evals.metrics.sampled_kl.sample_tokens", None)  # calling it would fail
    monkeypatch.setattr("prefzoo.experiment.stages.train.train", None)
    assert run(monkeypatch) == 0
    assert pd.read_csv(place / "results/far/frontier.csv").equals(before)


@pytest.mark.slow
def test_snapshots_that_were_not_taken(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--set", "evals.frontier=0") == 0, capsys.readouterr().out
    assert not (place / "results/far/frontier.csv").exists()
    capsys.readouterr()
    assert run(monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "dpo: trained without all snapshots of evals.frontier; --fresh takes them" in printed
    assert pd.read_csv(place / "results/far/frontier.csv").step.tolist() == [0, 6, 0, 6]


@pytest.mark.slow
def test_fewer_steps_than_points_take_all_snapshots(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--set", "train.steps=1") == 0
    assert "without all snapshots" not in capsys.readouterr().out
    assert pd.read_csv(place / "results/far/frontier.csv").step.tolist() == [0, 1, 0, 1]


@pytest.mark.slow
def test_variants_that_train_side_by_side(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--set", "train.lora={rank: 2}", "--set", "train.side_by_side=on") == 0
    assert "training dpo, simpo side by side: done" in capsys.readouterr().out
    table = pd.read_csv(place / "results/far/frontier.csv")
    assert table.groupby("variant").step.apply(list).to_dict() == {"dpo": [0, 2, 4, 6], "simpo": [0, 2, 4, 6]}
    assert table[table.step > 0].kl.nunique() == 6


def test_when_they_are_taken(tmp_path: Path) -> None:
    taken = []
    of = Snapshots(tmp_path, 4, lambda _, folder: taken.append(folder.name))
    for step in range(1, 11):
        if of.due(step, 10):
            of.take(None, step)
    assert taken == ["step-00000002", "step-00000005", "step-00000008"]  # 2.5, 5, 7.5; the tenth is the checkpoint
    assert Snapshots(tmp_path, 0, lambda *_: None).steps(10) == [] == Snapshots(tmp_path, 1, lambda *_: None).steps(10)
    assert Snapshots(tmp_path, 9, lambda *_: None).steps(2) == [1]
