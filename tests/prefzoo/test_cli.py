"""The command line as a user meets it: help without torch, one line per mistake, a whole run on a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from called import prefzoo

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 3, learning_rate: 1e-3, precision: fp32}
variants:
  dpo:
  low: {loss: dpo, train: {lora: {rank: 2}}}
  simpo:
evals: {prompts: "instruct:eval:3", max_new_tokens: 4}
"""


@pytest.fixture
def place(in_run_folder: Path) -> Path:
    (in_run_folder / "r.yaml").write_text(RECIPE)
    return in_run_folder


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from prefzoo.cli import cli; cli(['-h'], standalone_mode=False); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Which preference loss" in done.stdout


def test_losses_import_nothing_that_trains_or_reads_data() -> None:
    files = sorted((Path(__file__).parents[2] / "prefzoo" / "losses").glob("*.py"))
    assert files
    for f in files:
        assert not {"accelerate", "transformers", "datasets", "pandas"} & set(f.read_text().split()), f


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "absent.yaml"], "absent.yaml"),
        (["losses", "dpoo"], "did you mean 'dpo'"),
        (["losses", "dpo + sft", "--format", "md"], "'dpo + sft' is a sum; name one of its terms"),
        (["run", "r.yaml", "--set", "model=./nowhere"], "no such folder"),
        (["run", "r.yaml", "--set", "model=package://nope/x.gguf"], "no package 'nope'"),
        pytest.param(  # lm-eval takes six seconds to import
            ["run", "r.yaml", "--set", "evals.benchmarks=[arithmetics]"],
            "did you mean 'arithmetic'",
            marks=pytest.mark.slow,
        ),
        (["run", "r.yaml", "--set", "data.max_length=20"], "max_length"),
        (["run", "r.yaml", "--set", "evals.prompts='instruct:test'"], "no such split"),
        (["pairs", "--model", "model", "--prompts", "instruct:eval:2", "--out", "x.txt"], "use .jsonl or .parquet"),
        (["run", "r.yaml", "--set", "train.trackers=[tensorbord]"], "did you mean 'tensorboard'"),
        (["run", "r.yaml", "--set", "train.trackers=[wandb]"], "pip install wandb"),
        (
            ["run", "r.yaml", "--set", "variants.low.train.lora.quantize=4bit"],
            "variants.low.train.lora.quantize: 4bit needs bitsandbytes (pip install 'prefzoo[bitsandbytes]') and an "
            "NVIDIA GPU, not found here; leave it out for plain LoRA",
        ),
        (["frobnicate"], "no such command"),
    ],
)
def test_mistakes_exit_with_2_and_no_traceback(
    place: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prefzoo.engine.models.find_spec", lambda name: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert prefzoo(monkeypatch, *words) == 2
    err = capsys.readouterr().err
    assert says in err and "Traceback" not in err


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("train", "batch", "variants", "says"),
    [
        ("single.jsonl", 4, "{dpo: , kto: , simpo: }", [f"variants.{n}: {n} compares two" for n in ("dpo", "simpo")]),
        ("train.jsonl", 1, "{kto: , dpo: }", ["variants.kto: kto estimates a KL"]),
        ("train.jsonl", 4, "{odpo: , rpo_sq: }", ["variants.odpo: odpo reads", "variants.rpo_sq: rpo_sq reads"]),
    ],
)
def test_what_the_data_cannot_feed_is_said_of_every_variant_before_training(
    place: Path, command: str, train: str, batch: int, variants: str, says: list[str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rows = [{"prompt": f"Say {i}", "completion": f"It is {i}.", "label": i % 2 == 0} for i in range(8)]
    (place / "single.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (place / "r.yaml").write_text(
        f"name: tiny\nmodel: model\ndata: {{train: {train}}}\ntrain: {{batch: {batch}}}\nvariants: {variants}\n"
    )
    assert prefzoo(monkeypatch, command, "r.yaml") == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == len(says)
    for line, start in zip(err, says, strict=True):
        assert line.startswith(f"error: {start}") and "; " in line  # what is wrong; what to do


@pytest.mark.slow
def test_a_whole_run_and_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    out = capsys.readouterr().out
    assert "Leaderboard" in out and "training low: done" in out
    folder = place / "results" / "tiny"
    board = (folder / "leaderboard.md").read_text()
    played = json.loads((folder / "round_robin.json").read_text())
    assert "base" in played["variants"] and played["judge"] == "verifier" and "Bradley-Terry" in board
    assert all(f"| {name} |" in board for name in ("base", "dpo", "low", "simpo")) and "winner" in board
    result = json.loads((folder / "dpo" / "result.json").read_text())
    assert result["metrics"]["step"] == 3 and result["environment"]["versions"]["torch"]
    assert len((folder / "dpo" / "metrics.jsonl").read_text().splitlines()) == 3
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(folder / "dpo" / "checkpoint", use_safetensors=True)
    adapted = AutoModelForCausalLM.from_pretrained(folder / "low" / "checkpoint", use_safetensors=True)
    assert not hasattr(whole, "peft_config") and adapted.peft_config["default"].r == 2
    assert not (folder / "low" / "checkpoint" / "model.safetensors").exists()  # an adapter is small
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "variants.dpo.beta=0.5") == 0
    again = capsys.readouterr().out
    assert "low: already trained" in again and "training dpo: done" in again and "reference log-probs" not in again
    assert "base: already measured" in again and "low: already measured" in again and "answers of dpo" in again
    assert prefzoo(monkeypatch, "run", "r.yaml", "--fresh", "--results", "elsewhere") == 0
    assert "answers of base" not in capsys.readouterr().out  # made once for all runs on this machine


@pytest.mark.slow
def test_fresh_starts_over(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    only = ("run", "r.yaml", "--set", "variants={simpo: null}", "--set", "train.steps=2")
    assert prefzoo(monkeypatch, *only) == 0
    resume = place / "results" / "tiny" / "simpo" / "resume"
    resume.mkdir()
    (resume / "step-00000001-0.safetensors").write_text("begun")
    assert prefzoo(monkeypatch, *only, "--fresh") == 0
    out = capsys.readouterr().out
    assert out.count("training simpo: done") == 2 and "not read" not in out and not resume.exists()
    assert prefzoo(monkeypatch, *only, "--set", "evals.max_new_tokens=5") == 0
    out = capsys.readouterr().out
    assert "simpo: already trained" in out and "answers of simpo" in out and "answers of base" in out


@pytest.mark.slow
def test_numbers_that_are_not_where_they_were_written(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a process on another machine, whose disk is its own."""
    monkeypatch.setattr("prefzoo.experiment.stages.measure.measure_model", lambda *_: None)
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "variants={simpo: null}") == 2
    err = capsys.readouterr().err
    assert "no numbers of base, simpo, although they were measured; --results must be a folder that all" in err


def test_sigterm_before_the_first_step(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("prefzoo.recipe.load.load", load)
    assert prefzoo(monkeypatch, "run", "r.yaml") == 143
    assert capsys.readouterr().err == "stopped; finished results are saved; run the same command to resume\n"


def test_losses_data_and_check_speak(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, says in (
        (["losses"], "ipo_mean"),
        (["losses", "cdpo"], "flip_rate: >= 0 and < 0.5, default 0.1, tuned over 0.1, 0.2"),
        (["losses", "kto"], "couples the rows of a batch: all answers of a step share one z0"),
        (["losses", "chi_po"], "provisional: formula from a secondary copy"),
        (["losses", "dpo"], "paper: Rafailov 2023, arXiv:2305.18290, Eq. 7"),
        (["losses", "dpop"], "arXiv:2402.13228, no equation cited"),
        (["losses", "dpo_ref_free"], "beta: > 0, default 0.1, no published values were read"),
        (["losses", "dpo + 0.2*sft"], "dpo.beta: > 0, default 0.1"),
        (["data", "r.yaml"], "explicit prompt, plain strings, 8 rows, 8 used"),
        (["check", "r.yaml"], "dpo, 3 steps of 4 pairs"),
    ):
        assert prefzoo(monkeypatch, *words) == 0
        assert says in capsys.readouterr().out
