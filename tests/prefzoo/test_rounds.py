"""Rounds of on-policy training: what a recipe may say, what each round is made of, and how a run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo
from test_two_processes import free_port

from prefzoo.errors import UserError
from prefzoo.recipe import load

RECIPE = """\
name: r
model: model
data: {train: train.jsonl}
train: {batch: 4, steps: 1, learning_rate: 1e-2, precision: fp32}
rounds: {count: 2, n: 6}
variants: {dpo: }
evals: {prompts: prompts.jsonl, judge: "own.py:longer", max_new_tokens: 8, kl: 2}
"""
OWN = "def longer(instruction, output):\n    return len(output)\n"


def recipe_of(tmp_path: Path, *overrides: str) -> load.Recipe:
    (tmp_path / "r.yaml").write_text(RECIPE)
    return load.load(tmp_path / "r.yaml", overrides)


def test_a_variant_becomes_its_rounds_and_a_resolved_recipe_stays(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "rounds=3", "variants={dpo: , low: {loss: ipo}}")
    assert list(recipe.variants) == [f"{name}-r{number}" for name in ("dpo", "low") for number in (1, 2, 3)]
    assert [(v.chain, v.round) for v in recipe.variants.values()][3:5] == [("low", 1), ("low", 2)]
    (tmp_path / "resolved.yaml").write_text(load.dump(recipe))
    assert load.load(tmp_path / "resolved.yaml") == recipe


def test_a_round_may_have_settings_of_its_own(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "variants={a-r1: {loss: dpo}, a-r2: {loss: dpo, beta: 0.3}}")
    assert [(name, v.chain, v.round) for name, v in recipe.variants.items()] == [("a-r1", "a", 1), ("a-r2", "a", 2)]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("rounds=0", "rounds.count: must be at least 1 (is 0)"),
        ("rounds=three", "rounds: must be a number of rounds, or a mapping (is 'three'); like 3"),
        ("rounds=true", "rounds: must be a number of rounds, or a mapping (is True)"),
        ("rounds.n=1", "rounds.n: must be at least 2 (is 1)"),
        ("rounds.temperature=0", "rounds.temperature: must be greater than 0"),
        ("rounds.first=both", "rounds.first: must be 'sample' or 'data' (is 'both')"),
        ("rounds.prompts=p.jsonl", "rounds.prompts: data.train would not be read; add first: data"),
        ("rounds.answers=3", "rounds.answers: no such field"),
        ("evals.frontier=2", "evals.frontier: measures points of one training"),
        ("sweep={trials: 2}", "sweep: has no settings to choose from in rounds; leave it out"),
        ("train.learning_rate=[1e-3,1e-4]", "dpo.train.learning_rate: each round is one training, and this is a list"),
        ("variants={dpo: {beta: [0.1, 0.2]}}", "variants.dpo.beta: each round is one training"),
        ("train.sync_reference={}", "train.sync_reference: moves the reference, but all rounds share one"),
        ("train.pair_weights=w", "train.pair_weights: names a column of data.train, which sampled pairs do not have"),
        ("train.side_by_side=on", "train.side_by_side: is on, but each round starts from another model"),
        ("data.train=[{path: a.jsonl, weight: 2}, {path: b.jsonl, weight: 1}]", "data.train: weights (like 2) have no"),
        (f"variants={{{'d' * 62}: {{loss: dpo}}}}", "its rounds would be named"),
    ],
)
def test_what_rounds_cannot_be_combined_with(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(UserError) as told:
        recipe_of(tmp_path, override)
    assert any(says in line for line in told.value.lines), told.value.lines


@pytest.fixture
def place(run_folder: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_model.generation_config.eos_token_id = list(range(270, 340))  # answers end soon
    tiny_model.save_pretrained(run_folder / "model")
    rows = [{"prompt": f"say {i}", "chosen": f"it is {i}", "rejected": "no"} for i in range(12)]
    (run_folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run_folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"tell {i}"}) + "\n" for i in range(4)))
    (run_folder / "own.py").write_text(OWN)
    (run_folder / "r.yaml").write_text(RECIPE)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    return run_folder


def result(place: Path, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((place / "results/r" / name / "result.json").read_text())
    return values


def card(place: Path, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((place / "results/r" / name / "pairs.jsonl.card.json").read_text())
    return values


@pytest.mark.slow
def test_each_round_samples_from_the_last_and_keeps_the_first_reference(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "r.yaml").write_text(RECIPE.replace("precision: fp32", "precision: bf16"))
    both = "variants={dpo: , low: {loss: ipo, train: {lora: {rank: 2}}}}"
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", both) == 0
    plan = capsys.readouterr().out
    assert "rounds: 2, each on 6 answers to each of 12 prompts of train.jsonl@" in plan
    assert "dpo-r2: round 2, starts from dpo-r1, trains on answers of dpo-r1" in plan
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", both) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert all(f"training {name}: done" in out for name in ("dpo-r1", "dpo-r2", "low-r1", "low-r2"))
    assert out.count("answers to each of 12 prompts: done") == 3  # both variants share the pairs of the first round
    board = (place / "results/r/leaderboard.md").read_text()
    assert all(name in board for name in ("base", "dpo-r1", "dpo-r2", "low-r1", "low-r2"))
    first, second = (result(place, f"dpo-r{number}")["identity"] for number in (1, 2))
    assert first["reference"] is None and second["reference"] == "model"
    assert second["reference's weights"] == first["weights"] != second["weights"]
    assert card(place, "dpo-r1")["key"] == card(place, "low-r1")["key"]
    assert len({card(place, name)["key"] for name in ("dpo-r1", "dpo-r2", "low-r2")}) == 3
    rows = [json.loads(line) for line in (place / "results/r/dpo-r2/pairs.jsonl").read_text().splitlines()]
    assert rows and all(len(row["chosen"]) > len(row["rejected"]) for row in rows)
    page = (place / "results/r/report.html").read_text()
    assert "dpo-r2" in page
    again = prefzoo(monkeypatch, "run", "r.yaml", "--set", both, "--set", "evals.kl=1")
    out = capsys.readouterr().out
    assert again == 0 and "pairs of" not in out and "dpo-r2: already trained with these settings; reused" in out
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", both, "--set", "variants.dpo.beta=0.3", "--replace") == 0
    out = capsys.readouterr().out
    assert "trained again: dpo-r1 (beta 0.1 -> 0.3)" in out and "trained again: dpo-r2 (dpo-r1 is another model)" in out
    assert "pairs of dpo-r2" in out and "pairs of dpo-r1" not in out and "pairs of low" not in out


@pytest.mark.slow
def test_a_killed_run_goes_on_in_every_stage_and_ends_as_one_that_was_not(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "run", "r.yaml", "--results", "whole") == 0
    for name, count in (("make_pairs", 2), ("train", 1)):
        module = "prefzoo.experiment.sampled_pairs" if name == "make_pairs" else "prefzoo.experiment.stages.train"
        original = __import__(module, fromlist=[name]).__dict__[name]
        calls: list[int] = []

        def stopped(*words: Any, original: Any = original, calls: list[int] = calls, **more: Any) -> Any:
            calls.append(1)
            if len(calls) == count:  # noqa: B023 - called in this turn of the loop
                raise KeyboardInterrupt
            return original(*words, **more)

        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.{name}", stopped)
            assert prefzoo(patch, "run", "r.yaml") == 130
        if name == "make_pairs":
            assert (place / "results/r/dpo-r1/result.json").exists()
        capsys.readouterr()
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    assert "dpo-r1: already trained with these settings; reused" in capsys.readouterr().out
    for file in ("pairs.jsonl", "checkpoint/model.safetensors", "model_outputs.json"):
        for name in ("dpo-r1", "dpo-r2"):
            same = (place / "whole/r" / name / file).read_bytes() == (place / "results/r" / name / file).read_bytes()
            assert same, (name, file)


KILLS = """\
import os, signal
from pathlib import Path

def longer(instruction, output):
    if Path("kill").exists() and Path("results/r/dpo-r1/result.json").exists():
        Path("kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return len(output)
"""


@pytest.mark.slow
def test_two_processes_train_rounds_and_go_on_where_the_second_was_killed(place: Path) -> None:
    """The judge kills its process, the main one, while it pairs answers of the first round's policy."""
    (place / "own.py").write_text(KILLS)
    (place / "kill").touch()
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}", "-m"]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

    def run() -> subprocess.CompletedProcess[str]:
        command = [*words, "prefzoo", "run", "r.yaml"]
        return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=300, env=env)

    killed = run()
    assert killed.returncode != 0 and not (place / "kill").exists(), killed.stderr[-3000:]
    assert not (place / "results/r/dpo-r2/result.json").exists()
    done = run()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "dpo-r1: already trained with these settings; reused" in done.stdout
    assert {result(place, f"dpo-r{number}")["environment"]["processes"] for number in (1, 2)} == {2}
    assert result(place, "dpo-r2")["identity"]["reference's weights"] == result(place, "dpo-r1")["identity"]["weights"]
    board = (place / "results/r/leaderboard.md").read_text()
    assert "| dpo-r1 |" in board and "| dpo-r2 |" in board


@pytest.mark.slow
def test_seeds_have_chains_of_their_own_and_the_first_round_may_train_on_the_data(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "r.yaml", "--set", "seeds=[0, 1]", "--set", "rounds.first=data"]
    words += ["--set", "rounds.prompts=prompts.jsonl"]
    assert prefzoo(monkeypatch, *words) == 0, capsys.readouterr().err
    assert not (place / "results/r/dpo-r1-s0/pairs.jsonl").exists()
    assert card(place, "dpo-r2-s0")["key"] != card(place, "dpo-r2-s1")["key"]
    assert card(place, "dpo-r2-s1")["prompts_asked"] == 4
    board = (place / "results/r/leaderboard.md").read_text()
    assert "| dpo-r1 |" in board and "| dpo-r2 |" in board and "| dpo-r1-s0 |" not in board


@pytest.mark.slow
def test_a_round_without_pairs_fails_and_the_next_with_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tie = (
        'calls = 0\ndef longer(instruction, output):\n    return 0 if instruction.startswith("say") else len(output)\n'
    )
    (place / "own.py").write_text(tie)
    words = ["run", "r.yaml", "--set", "rounds={count: 3, n: 3, first: data}"]
    assert prefzoo(monkeypatch, *words) == 3
    printed = capsys.readouterr()
    failed = {n: json.loads((place / f"results/r/dpo-r{n}/failed.json").read_text())["reason"] for n in (2, 3)}
    assert "no prompt gave a pair" in failed[2] and "raise rounds.n" in failed[2]
    assert failed[3].startswith("the round before, dpo-r2, failed: no prompt gave a pair")
    assert "dpo-r1" in (place / "results/r/leaderboard.md").read_text() and "Traceback" not in printed.err
    (place / "own.py").write_text(OWN)
    assert prefzoo(monkeypatch, *words) == 0
    assert "dpo-r3" in (place / "results/r/leaderboard.md").read_text()


def test_a_judge_that_cannot_judge_the_prompts_is_refused_before_the_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", "rounds.judge=verifier") == 2
    assert "rounds.judge: verifier scores only prompts with checks, and 12 of 12 have none" in capsys.readouterr().err
    assert prefzoo(monkeypatch, "run", "r.yaml", "--emit", "slurm") == 2
    assert "rounds: each waits for the one before" in capsys.readouterr().err
