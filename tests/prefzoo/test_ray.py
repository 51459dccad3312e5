"""A sweep on a real Ray of two workers, one of which is killed in the middle of a training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("ray")

RECIPE = """\
name: tuned
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 80, learning_rate: 1e-3, precision: fp32}
sweep: {validation: validation.jsonl}
variants:
  dpo: {beta: [0.05, 0.5]}
  simpo: {beta: [2.0, 5.0]}
evals: {prompts: "instruct:eval:3", max_new_tokens: 4}
"""
KILLED_AFTER = 10  # steps


def environment(cache: Path) -> dict[str, str]:
    """Threads decide the last bits of a sum: as many in order as on a worker."""
    names = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **names, "PREFZOO_CACHE": str(cache), "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": 2})}


def workers(of: int) -> dict[int, str]:
    """What the descendants of a process say they are doing, by their ids: `ray::prefzoo train:...`."""
    parent: dict[int, int] = {}
    title: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            title[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it has ended meanwhile
            continue

    def descends(pid: int) -> bool:
        while pid > 1:
            pid = parent.get(pid, 0)
            if pid == of:
                return True
        return False

    return {pid: process for pid, process in title.items() if process.startswith("ray::prefzoo") and descends(pid)}


def kill_one(run: subprocess.Popen[str], folder: Path) -> str:
    """SIGKILL to the worker of a training that has logged some steps; the trial's name."""
    end = time.monotonic() + 400
    while time.monotonic() < end and run.poll() is None:
        for pid, process in workers(run.pid).items():
            name = process.partition("train:")[2].strip()
            log = folder / name / "metrics.jsonl"
            if name and log.is_file() and len(log.read_bytes().splitlines()) >= KILLED_AFTER:
                os.kill(pid, signal.SIGKILL)
                return name
        time.sleep(0.02)
    raise AssertionError(f"no worker was met in the middle of a training; the run ended with {run.poll()}")


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_the_numbers_are_those_of_a_run_in_order(run_folder: Path) -> None:
    (run_folder / "r.yaml").write_text(RECIPE)
    rows = [{"prompt": f"Ask {i}", "chosen": f"It is {i}.", "rejected": f"No {i}{i}"} for i in range(6)]
    (run_folder / "validation.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    words = [sys.executable, "-m", "prefzoo", "run", "r.yaml", "--save-every", "0", "--results"]
    with (run_folder / "ray.log").open("w") as log:
        run = subprocess.Popen(
            [*words, "on-ray", "--on", "ray"], cwd=run_folder, env=environment(run_folder / "cache-ray"),
            stdout=log, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            killed = kill_one(run, run_folder / "on-ray" / "tuned")
            code = run.wait(400)
        finally:
            if run.poll() is None:
                run.terminate()
                run.wait(60)
    printed = (run_folder / "ray.log").read_text()
    assert code == 0, printed[-4000:]
    assert "resuming after step" in printed
    assert not workers(run.pid)  # Ray was shut down
    done = subprocess.run(
        [*words, "in-order"], cwd=run_folder, env=environment(run_folder / "cache-order"),
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    compare(run_folder / "on-ray" / "tuned", run_folder / "in-order" / "tuned", killed)


def compare(one: Path, other: Path, killed: str) -> None:
    """Bit for bit: every step of every trial, every validation margin, the choice, the board."""
    record = json.loads((one / "sweep.json").read_text())
    assert record == json.loads((other / "sweep.json").read_text())
    assert killed in {trial["name"] for trial in record["trials"]}
    for trial in record["trials"]:
        for name in ("metrics.jsonl", "validation.json"):
            assert (one / trial["name"] / name).read_text() == (other / trial["name"] / name).read_text(), trial
    boards = [pd.read_csv(folder / "leaderboard.csv") for folder in (one, other)]
    first, second = (board[board.metric != "train_seconds"].reset_index(drop=True) for board in boards)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
