"""A whole sweep through the command, on a tiny model: what is chosen by what, what is said, stages alone, SLURM."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from called import pairs_text, prefzoo
from rich.console import Console

from prefzoo.evals.boards.run_files import read_run
from prefzoo.experiment.best_trials import train_and_choose
from prefzoo.experiment.check import load_checked
from prefzoo.experiment.executors import InOrder, Resources
from prefzoo.experiment.opening import open_experiment
from prefzoo.experiment.ray_executor import Head, HeadLost, launch_words
from prefzoo.experiment.request import Request
from prefzoo.experiment.stages.stage import REFERENCE, TRAIN, Stage

RECIPE = """\
name: tuned
model: model
seeds: [0, 1]
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 4, learning_rate: 1e-3, precision: fp32}
sweep: {validation: 0.3}
variants:
  dpo: {beta: [0.05, 0.5]}
  simpo: {beta: [2.0, 5.0]}
evals: {prompts: "instruct:eval:3", max_new_tokens: 4}
"""
FINALS = 4  # two variants, two seeds


@pytest.fixture
def place(in_run_folder: Path) -> Path:
    (in_run_folder / "train.jsonl").write_text(pairs_text(range(20)))
    (in_run_folder / "test.jsonl").write_text(pairs_text(range(20, 28)))
    (in_run_folder / "r.yaml").write_text(RECIPE)
    return in_run_folder


@pytest.mark.slow
def test_a_sweep_ends_in_a_board_of_tuned_variants(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    out = capsys.readouterr().out
    assert "2 variants, 2 settings each, 2 seeds: 8 trials, chosen by 6 validation pairs held out of training" in out
    folder = place / "results" / "tuned"
    board, record = (folder / "leaderboard.md").read_text(), json.loads((folder / "sweep.json").read_text())
    assert (
        "| dpo |" in board and "Every variant had the same budget, 2 settings, each trained with 2 of 2 seeds" in board
    )
    assert "Intervals span seeds and prompts together" in board
    assert len(record["trials"]) == 8 and len(record["finals"]) == FINALS and set(record["chosen"]) == {"dpo", "simpo"}
    assert all(one["validation"] is not None for one in record["trials"])
    measured = {path.parent.name for path in folder.glob("*/evals.json")}
    assert list(read_run(folder).variants) == ["base", *record["finals"]]
    assert measured == {"base", *record["finals"]}  # what was not chosen never met the test split
    long = pd.read_csv(folder / "leaderboard.csv")
    assert {"dpo", "simpo", "base", *record["finals"]} == set(long.variant)
    assert set(long[long.variant == "dpo-beta0.5-s1"].seed) <= {1} and long[long.variant == "dpo"].seed.isna().all()
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    again = capsys.readouterr().out
    assert "training dpo" not in again and "nothing to do" in again
    (folder / "report.html").unlink()  # one file is missing: the run looks at every trial
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    again = capsys.readouterr().out
    assert "training dpo" not in again and again.count("already trained") == 8 and again.count("already measured") == 5


@pytest.mark.slow
def test_the_choice_never_reads_the_test_split(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out pairs and prompts are there, but whoever touches them fails."""

    class Untouchable(list[Any]):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"the test split was read: {name}")

        def __len__(self) -> int:
            raise AssertionError("the test split was counted")

        __iter__ = __getitem__ = __bool__ = __len__  # type: ignore[assignment]

    request = Request("r.yaml", ("seeds=[0]",), "results")
    experiment = open_experiment(request, load_checked(request), Console(quiet=True))
    poisoned = replace(experiment, held_out=Untouchable(), prompts=Untouchable())
    for name in ("stages.measure.measure_model", "stages.measure.is_complete", "base_logprobs.base_on_held_out"):
        monkeypatch.setattr(f"prefzoo.experiment.{name}", lambda *_: pytest.fail("the test split was measured"))
    choice = train_and_choose(poisoned, InOrder(poisoned))
    assert set(choice.settings) == {"dpo", "simpo"} and len(choice.scores) == FINALS
    with pytest.raises(AssertionError, match="the test split was"):
        len(poisoned.held_out)


@pytest.mark.slow
def test_another_test_split_makes_no_other_choice(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "seeds=[0]") == 0
    swapped = "".join(
        json.dumps({**json.loads(line), "prompt": "Ask"}) + "\n" for line in pairs_text(range(40, 44)).splitlines()
    )
    (place / "test.jsonl").write_text(swapped)
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "seeds=[0]", "--results", "other", "--fresh") == 0
    one, two = (json.loads((place / f / "tuned" / "sweep.json").read_text()) for f in ("results", "other"))
    assert one == two  # choice and scores alike


@pytest.mark.slow
def test_early_stopping_stops_the_worse_half(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", "r.yaml", "--set", "sweep.early_stopping={factor: 2}", "--set", "seeds=[0]")
    assert prefzoo(monkeypatch, *words) == 0
    assert "rung 1: 2 trials continue, 2 are stopped" in capsys.readouterr().out
    folder = place / "results" / "tuned"
    record = json.loads((folder / "sweep.json").read_text())
    stopped = [one["name"] for one in record["trials"] if one["stopped_after"] == 2]
    assert len(stopped) == 2 and not set(stopped) & set(record["finals"])
    assert all(len((folder / n / "metrics.jsonl").read_text().splitlines()) == 2 for n in stopped)
    through = next(iter(record["finals"]))
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "seeds=[0]", "--results", "whole") == 0
    parts = ((place / f / "tuned" / through / "metrics.jsonl").read_text() for f in ("results", "whole"))
    assert next(parts) == next(parts)  # a rung is a pause, and changes nothing
    assert prefzoo(monkeypatch, *words) == 0  # decided again from disk, alike
    assert json.loads((folder / "sweep.json").read_text()) == record


@pytest.mark.slow
def test_a_trial_that_diverges_is_not_counted_as_stopped_early(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = "variants={dpo: {train: {learning_rate: [1e-3, 1e-4, 1e30]}}}"
    words = ("run", "r.yaml", "--set", "sweep.early_stopping={factor: 2}", "--set", "seeds=[0]", "--set", grid)
    for _ in range(2):  # trained, and read from disk
        assert prefzoo(monkeypatch, *words) == 0
        assert "rung 1: 1 trials continue, 1 are stopped, 1 failed" in capsys.readouterr().out
        folder = place / "results" / "tuned"
        last = json.loads((folder / "sweep.json").read_text())["trials"][-1]
        assert last["stopped_after"] is None and "the loss is nan" in last["failed"]
        assert "1 of 3 trials were stopped early" in (folder / "leaderboard.md").read_text()


@pytest.mark.slow
def test_a_sweep_section_without_a_grid_is_not_ignored_in_silence(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ("run", "r.yaml", "--set", "variants={dpo: {}}", "--set", "evals.prompts=null", "--set", "train.steps=1")
    assert prefzoo(monkeypatch, *plain) == 0
    assert "sweep: no variant has a grid" in capsys.readouterr().out
    assert prefzoo(monkeypatch, *plain, "--set", "sweep=null") == 0
    assert "no variant has a grid" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_trial_that_diverges_is_out_and_the_others_go_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--set", "seeds=[0]", "--set", "variants={dpo: {train: {learning_rate: [1e-3, 1e30]}}}")
    assert prefzoo(monkeypatch, "run", "r.yaml", *words) == 0
    record = json.loads((place / "results" / "tuned" / "sweep.json").read_text())
    assert record["chosen"] == {"dpo": "dpo-lr0.001"} and "the loss is nan" in record["trials"][1]["failed"]
    assert "dpo-lr1e30-s0 failed: dpo: the loss is nan" in (place / "results" / "tuned" / "leaderboard.md").read_text()
    assert (
        prefzoo(
            monkeypatch, "run", "r.yaml", *words[:2], "--set", "variants={dpo: {train: {learning_rate: [1e29, 1e30]}}}"
        )
        == 3
    )
    assert "No variant was trained to its end. dpo failed" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "sweep.validation=test.jsonl"], "sweep.validation: test.jsonl is also data.eval"),
        (["--set", "sweep.validation=copy.jsonl"], "sweep.validation: 8 pairs of copy.jsonl are in data.eval too"),
        (["--set", "data.eval=train.jsonl"], "sweep.validation: 6 pairs of data.train train.jsonl are in data.eval"),
        (["--on", "mars"], "--on mars: no such executor; give local, ray, or ray://host:10001"),
        (["--gpus", "1.5"], "--gpus 1.5: above 1, GPUs are whole; give 2"),
        (["--launch", "no.yaml"], "--launch no.yaml: no such file"),
        (["--stage", "train:99"], "--stage train:99: no such stage; there are reference, train:N and measure:N"),
        (["--stage", "measure"], "--stage measure: no such stage"),
        (["--emit", "slurm", "--set", "sweep.early_stopping={}"], "sweep.early_stopping: tasks of an array do not"),
        (["--emit", "slurm", "--set", "train.side_by_side=on"], "train.side_by_side: is on (dpo, simpo), and a task"),
        (["--emit", "slurm", "--fresh"], "--fresh: has no effect with --emit; leave it out"),
        (["--stage", "train:0", "--on", "ray", "--retry-failed"], "--retry-failed, --on: has no effect with"),
        (["--gpus", "1", "--cpus", "2"], "--gpus, --cpus: is for stages on Ray or SLURM; add --on ray or --emit slurm"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    (place / "copy.jsonl").write_text((place / "test.jsonl").read_text())
    assert prefzoo(monkeypatch, "run", "r.yaml", *words) == 2
    assert says in capsys.readouterr().err


def test_without_ray(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert prefzoo(monkeypatch, "run", "r.yaml", "--on", "ray") == 2
    assert capsys.readouterr().err == (
        "error: --on ray: Ray is not installed; pip install 'prefzoo[ray]', or leave out --on to train in order\n"
    )


def test_check_counts_the_trials(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        prefzoo(monkeypatch, "check", "r.yaml", "--set", "variants.ipo={sweep: paper}", "--set", "sweep.trials=2") == 0
    )
    out = capsys.readouterr().out
    assert "12 trials in all" in out and "2 settings x 2 seeds" in out and "grid: Azar 2023, arXiv:2310.12036" in out


@pytest.mark.slow
def test_slurm_scripts_are_bash_and_one_task_trains_one_trial(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    awkward = place / "it's here"
    assert prefzoo(monkeypatch, "run", "r.yaml", "--emit", "slurm", "--results", str(awkward), "--gpus", "1") == 0
    assert "8 trainings, one array task each" in capsys.readouterr().out
    folder = awkward / "tuned" / "slurm"
    scripts = sorted(folder.iterdir())
    assert [s.name for s in scripts] == ["evaluate.sbatch", "reference.sbatch", "submit.sh", "train.sbatch"]
    for script in scripts:
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    text = (folder / "train.sbatch").read_text()
    assert "#SBATCH --array=0-7\n" in text and "#SBATCH --gpus-per-node=1\n" in text
    # The task's own line, run in this process: `exec python -m prefzoo run ... --stage "train:${SLURM_ARRAY_TASK_ID}"`.
    line = text.splitlines()[-1].replace("exec python -m prefzoo", "printf '%s\\n'")
    told = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=True, env={**os.environ, "SLURM_ARRAY_TASK_ID": "5"}
    )
    assert prefzoo(monkeypatch, *told.stdout.splitlines()) == 0
    trained = [path.parent.name for path in (awkward / "tuned").glob("*/result.json")]
    assert trained == ["simpo-beta2-s1"] and (awkward / "tuned" / trained[0] / "validation.json").is_file()


def test_several_devices_for_a_training_are_accelerates() -> None:
    request = Request("/r.yaml", ("train.batch=8",), "/results", 300.0)
    words = launch_words(request, Stage(TRAIN, ("dpo-s0",)), Resources("ray", 4.0, 2, Path("fsdp2.yaml")))
    assert words[1:3] == ["-m", "accelerate.commands.launch"] and "--config_file fsdp2.yaml" in " ".join(words)
    assert " ".join(words).endswith(
        "--num_processes 4 -m prefzoo run /r.yaml --results /results --save-every 300 --set train.batch=8 "
        "--stage train:dpo-s0"
    )


def test_a_rungs_stage_reads_back() -> None:
    assert str(Stage(TRAIN, ("dpo-s0",), 3)) == "train:dpo-s0@3" and str(Stage(REFERENCE)) == "reference"


def test_a_client_whose_connection_ends_is_told_that_the_head_is_lost() -> None:
    def wait(tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        raise ConnectionError("the channel is closed")

    head = Head(SimpleNamespace(wait=wait), "ray://there:10001")
    with pytest.raises(HeadLost, match=r"--on ray://there:10001: .*the channel is closed.*to resume where"):
        head.wait([])
