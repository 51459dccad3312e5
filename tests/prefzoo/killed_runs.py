"""Run by test_killed_runs.py: real `prefzoo run`s in children of one process, so that the imports are paid for once.

Usage: killed_runs.py FOLDER KILLS. In FOLDER lie r.yaml and what it names. An uninterrupted run goes to `whole`; a
run that is killed at KILLS random moments to `killed`. Prints the lines of the runs that went on.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

import torch
from peft import LoraConfig  # noqa: F401 - this and the next are what every child would import
from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401

import prefzoo.experiment.pipeline  # noqa: F401
from prefzoo.cli import main


def child(folder: Path, results: str) -> int:
    """`prefzoo run` in a process of its own; its number. Each results folder has a cache of its own."""
    sys.stdout.flush()  # else a child says it again
    pid = os.fork()
    if pid == 0:
        os.environ["PREFZOO_CACHE"] = str(folder / f"cache-{results}")
        sys.argv = ["prefzoo", "run", str(folder / "r.yaml"), "--results", str(folder / results), "--save-every", "0"]
        code = 0
        try:
            main()
        except SystemExit as e:
            code = int(e.code or 0)
        sys.stdout.flush()
        os._exit(code)
    return pid


def wait(pid: int, seconds: float) -> int | None:
    """The exit code, within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def finish(folder: Path, results: str) -> float:
    start = time.monotonic()
    code = wait(child(folder, results), 300)
    assert code == 0, f"{results}: exit code {code}"
    return time.monotonic() - start


def check(folder: Path) -> None:
    """What two runs leave must be the same, bit for bit."""
    whole, killed = folder / "whole", folder / "killed"
    names = [*whole.rglob("metrics.jsonl"), *whole.rglob("*.safetensors"), *whole.rglob("evals.json")]
    for file in names:
        other = killed / file.relative_to(whole)
        assert other.read_bytes() == file.read_bytes(), f"{other} differs"
    left = [p for p in killed.rglob("*") if p.name == "resume" or p.name.endswith(".partial")]
    assert names and not left, left


def run(folder: Path, kills: int) -> None:
    moments, seconds = random.Random(0), finish(folder, "whole")
    while kills:
        pid = child(folder, "killed")
        code = wait(pid, moments.uniform(0.05, 0.5) * seconds)
        if code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            kills -= 1
        else:  # it got to its end: look at it, and begin again
            assert code == 0, code
            check(folder)
            shutil.rmtree(folder / "killed")
            shutil.rmtree(folder / "cache-killed")
    finish(folder, "killed")
    check(folder)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), int(sys.argv[2]))
