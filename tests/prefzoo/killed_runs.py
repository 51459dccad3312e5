"""Kill real `prefzoo run`s, in children of one process to import the packages only once; run by test_killed_runs.py.

Usage: killed_runs.py FOLDER KILLS PATTERNS. FOLDER holds r.yaml and the files that it names. An uninterrupted run
writes to `whole`. Another run, which writes to `killed`, is killed at KILLS random moments, and once more when files of
each of the glob PATTERNS exist. The runs print their usual lines.
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
    """Start `prefzoo run` in a child process with a cache for its results folder, and return the process id."""
    sys.stdout.flush()  # else the child prints the same text again
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
    """Return the exit code of a process, or None if it does not end within `seconds`."""
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
    """Check that the files of both runs are the same, bit for bit."""
    whole, killed = folder / "whole", folder / "killed"
    names = [*whole.rglob("metrics.jsonl"), *whole.rglob("*.safetensors"), *whole.rglob("evals.json")]
    for file in names:
        other = killed / file.relative_to(whole)
        assert other.read_bytes() == file.read_bytes(), f"{other} differs"
    left = [p for p in killed.rglob("*") if p.name == "resume" or p.name.endswith(".partial")]
    assert names and not left, left


def killed(folder: Path, seconds: float, patterns: list[str]) -> bool:
    """Kill a run after `seconds`, or as soon as files of each pattern exist; return False if it ended before that."""
    pid, end = child(folder, "killed"), time.monotonic() + seconds
    while time.monotonic() < end and not (patterns and exist(folder, patterns)):
        code = wait(pid, 0.005)
        if code is not None:
            assert code == 0, code
            return False
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def exist(folder: Path, patterns: list[str]) -> bool:
    return all(any((folder / "killed").rglob(p)) for p in patterns)


def run(folder: Path, kills: int, patterns: list[str]) -> None:
    """Kill at random moments, which may all be early on a slow machine, then once when files of the patterns exist."""
    moments, seconds = random.Random(0), finish(folder, "whole")
    for wanted in [*[[]] * kills, patterns]:
        done = False
        while not done:
            if killed(folder, 300 if wanted else moments.uniform(0.05, 0.5) * seconds, wanted):
                done = exist(folder, wanted)  # a training may end between the check and the kill
            else:  # the run has ended: check it, and start a new one
                check(folder)
                shutil.rmtree(folder / "killed")
                shutil.rmtree(folder / "cache-killed")
    finish(folder, "killed")
    check(folder)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
