"""SIGTERM under `accelerate launch`: as schedulers send it, to the launcher or to all; a requeued run goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_two_processes import free_port

PROFILE = Path(__file__).parents[2] / "recipes" / "accelerate" / "ddp.yaml"
STEPS = 300


def launch(folder: Path) -> subprocess.Popen[str]:
    words = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(PROFILE),
        "--main_process_port", str(free_port()), "-m", "prefzoo", "run", "r.yaml", "--set", f"train.steps={STEPS}",
    ]  # fmt: skip
    env = {
        **os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1",
        "ACCELERATE_USE_CPU": "true", "PREFZOO_CACHE": str(folder / "cache"),
    }  # fmt: skip
    return subprocess.Popen(
        words, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("to", ["launcher", "all"])
def test_two_processes_stop_with_a_checkpoint_and_a_requeued_run_goes_on(run_folder: Path, to: str) -> None:
    text = (run_folder / "r.yaml").read_text()
    (run_folder / "r.yaml").write_text(text.split("variants:")[0] + "variants: {dpo: null}\n")
    log = run_folder / "results" / "tiny" / "dpo" / "metrics.jsonl"
    with launch(run_folder) as run:
        end = time.monotonic() + 120
        while not (log.exists() and log.stat().st_size) and time.monotonic() < end and run.poll() is None:
            time.sleep(0.02)
        if to == "all":
            os.killpg(run.pid, signal.SIGTERM)
        else:
            run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=120)
    match = re.search(rf"stopped after step (\d+) of {STEPS}; run the same command to resume from there", err)
    assert run.returncode and match, out[-3000:] + err[-3000:]
    assert len(log.read_text().splitlines()) == int(match[1]) < STEPS
    assert [p.name[:13] for p in (log.parent / "resume").iterdir()] == [f"step-{int(match[1]):08}"]
    with launch(run_folder) as again:
        out, err = again.communicate(timeout=300)
    assert again.returncode == 0, out[-3000:] + err[-3000:]
    assert f"resuming after step {match[1]} of {STEPS}" in out
    assert len(log.read_text().splitlines()) == STEPS and not (log.parent / "resume").exists()
