"""`prefzoo run`, really killed: at random moments, again and again, until it is done; and the signals it answers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefzoo.errors import UserError
from prefzoo.runtime.locking import run_lock

HERE = Path(__file__).parent


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


@pytest.mark.slow
def test_a_run_killed_at_ten_random_moments_ends_as_an_untouched_one(run_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_runs.py"), str(run_folder), "10", "checkpoint", "step-*-*"],
        capture_output=True, text=True, check=False, timeout=600, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"resuming after step \d+ of 25", done.stdout)
    assert "already trained with these settings; reused" in done.stdout
    assert "not read" not in done.stdout  # no half-written file was ever met


SIDE = """\
name: tiny
model: model
data: {train: train.jsonl, max_length: 300}
train: {batch: 4, steps: 25, learning_rate: 1e-3, precision: fp32, lora: {rank: 2, dropout: 0.3}}
variants:
  dpo:
  shift: {loss: bco_pair_shift}
  simpo:
"""


@pytest.mark.slow
def test_variants_side_by_side_killed_at_random_moments(run_folder: Path) -> None:
    (run_folder / "r.yaml").write_text(SIDE)
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_runs.py"), str(run_folder), "6", "step-0000000[1-9]-*"],
        capture_output=True, text=True, check=False, timeout=600, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "training dpo, shift, simpo side by side" in done.stdout
    assert re.search(r"resuming after step [1-9]\d* of 25", done.stdout)
    assert "not read" not in done.stdout


def test_what_a_killed_run_left_half_written_goes_and_nothing_else(tmp_path: Path) -> None:
    partial, other = tmp_path / "dpo" / ".evals.json.4568.partial", tmp_path / "dpo" / "evals.json"
    half = tmp_path / "dpo" / ".checkpoint.4568.partial" / "model.safetensors"
    for path in (partial, other, half):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    with run_lock(tmp_path):
        assert [p for p in (tmp_path / "dpo").iterdir()] == [other]
        with pytest.raises(UserError, match="has been running here"), run_lock(tmp_path):
            pass


@pytest.mark.slow
def test_sigterm_says_how_to_go_on(run_folder: Path) -> None:
    words = [sys.executable, "-m", "prefzoo", "run", "r.yaml", "--set", "train.steps=2000", "--set", "variants.dpo="]
    env = {**environment(), "PREFZOO_CACHE": str(run_folder / "cache")}
    with subprocess.Popen(
        words, cwd=run_folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        log = run_folder / "results" / "tiny" / "dpo" / "metrics.jsonl"
        end = time.monotonic() + 60
        while not (log.exists() and log.stat().st_size) and time.monotonic() < end:
            time.sleep(0.05)
        run.send_signal(signal.SIGTERM)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 143
    printed = re.fullmatch(r"stopped after step (\d+) of 2000; run the same command to resume from there\n", err)
    assert printed, err
    assert len(log.read_text().splitlines()) == int(printed[1])
    assert len([*(log.parent / "resume").glob("step-*")]) == 1
