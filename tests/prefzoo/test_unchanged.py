"""A run with nothing to do is decided from files' sizes and dates, without torch; any change leads to a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from called import prefzoo

from prefzoo.experiment.request import Request
from prefzoo.experiment.unchanged import read_finished_run

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, max_length: 300}
train: {batch: 4, steps: 1, precision: fp32}
variants: {simpo: {gamma: 0.5}}
evals: {prompts: "instruct:eval:2", max_new_tokens: 2, kl: 0}
"""
REQUEST = Request("r.yaml", (), "results")


@pytest.fixture
def place(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:  # fmt: skip
    """A finished run, and what it printed in `printed.txt`."""
    (run_folder / "r.yaml").write_text(RECIPE)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    (run_folder / "vendored" / "copied-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(run_folder / "vendored"))  # as setuptools does when it is imported
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    (run_folder / "printed.txt").write_text(capsys.readouterr().out)
    return run_folder


@pytest.mark.slow
def test_the_same_command_shows_the_board_again_without_torch(place: Path) -> None:
    code = (
        "import sys; sys.argv = ['prefzoo', 'run', 'r.yaml']; from prefzoo.cli import main; main(); "
        "print('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    lines = done.stdout.splitlines()
    assert lines[-1] == "False False"
    assert "  reused: simpo" in lines and "nothing to do: everything is trained, measured and judged" in done.stdout
    board = (place / "printed.txt").read_text().partition("Leaderboard")[2]
    assert board and board in done.stdout + "\n"


@pytest.mark.slow
def test_any_change_leads_to_a_run(place: Path) -> None:
    assert read_finished_run(REQUEST) is not None
    for path in ("train.jsonl", "model/config.json", "results/tiny/simpo/checkpoint/model.safetensors", "r.yaml"):
        file = place / path
        before, text = file.stat(), file.read_bytes()
        file.write_bytes(text + b"\n")
        assert read_finished_run(REQUEST) is None, path
        file.write_bytes(text)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert read_finished_run(REQUEST) is not None, path
    for other in (Request("r.yaml", ("seed=1",), "results"), Request("absent.yaml", (), "results")):
        assert read_finished_run(other) is None
    (place / "results" / "tiny" / "report.html").unlink()
    assert read_finished_run(REQUEST) is None
