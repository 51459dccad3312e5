"""Processes that run one function on many inputs: they start as needed, and none outlives the one that started it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from functools import partial
from typing import Any

import psutil
import pytest

from prefzoo.runtime.workers import Workers, usable_cores

GUARDLESS = """
import math, sys, time
from prefzoo.runtime.workers import Workers
with Workers(math.sqrt, 2) as workers:
    print([one.result() for one in [workers.submit(n) for n in (1, 4, 9)]], flush=True)
    if sys.argv[1:]:
        workers.submit(16).result()
        time.sleep(100)
"""


def test_one_worker_is_this_process() -> None:
    seen: list[int] = []
    with Workers(seen.append, 1) as workers:
        workers.submit(3).result()
    assert seen == [3]


def test_nothing_starts_without_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    with Workers(math.sqrt, 2):
        pass


def test_what_a_process_cannot_do_is_done_here() -> None:
    with Workers(lambda n: n + 1, 2) as workers:  # which cannot be pickled
        assert workers.submit(1).result() == 2


def test_cores_are_shared_by_processes_that_train_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert usable_cores() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert usable_cores() == 1


@pytest.mark.slow
def test_outputs_belong_to_inputs_and_errors_show() -> None:
    with Workers(partial(math.pow, 2), 2) as workers:
        given = [workers.submit(n) for n in range(20)]
        assert [one.result() for one in given] == [2.0**n for n in range(20)]
    with Workers(math.sqrt, 2) as workers, pytest.raises(ValueError, match="math domain error|nonnegative"):
        workers.submit(-1).result()


@pytest.mark.slow
def test_a_script_needs_no_guard_and_leaves_no_process_behind(tmp_path: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text(GUARDLESS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[1.0, 2.0, 3.0]\n", "")
    with subprocess.Popen([sys.executable, script, "wait"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        children = psutil.Process(running.pid).children()
        running.send_signal(signal.SIGKILL)
    assert children and not psutil.wait_procs(children, timeout=30)[1]
