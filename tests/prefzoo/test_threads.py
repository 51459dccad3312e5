"""Threads that wait sleep soon, unless the user chose how they wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from prefzoo import cli
from prefzoo.experiment.environment import GOOD, NOTE, examine
from prefzoo.runtime import threads


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that sets nothing of how threads wait; what a test sets is put back."""
    monkeypatch.setenv(threads.SPINS, "")
    for name in [n for n in os.environ if n in threads.OWN or n.startswith("KMP_")]:
        monkeypatch.delenv(name)


def test_waiting_threads_sleep_soon() -> None:
    threads.limit_spinning()
    assert os.environ[threads.SPINS] == threads.COUNT
    assert threads.environment() == {threads.SPINS: threads.COUNT}  # also for a worker on another machine


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    threads.limit_spinning()
    assert threads.environment() == {name: "7"}
    assert threads.chosen_by_user() == f"{name}=7"


def test_the_command_line_sets_it_before_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prefzoo", "--version"])
    cli.main()
    assert os.environ[threads.SPINS] == threads.COUNT
    code = "import sys, prefzoo, prefzoo.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_doctor_shows_how_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    (own,) = (f for f in examine() if f.name == "waiting threads")
    assert own.state == GOOD and "GOMP_SPINCOUNT=1000" in own.says
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    (own,) = (f for f in examine() if f.name == "waiting threads")
    assert own.state == NOTE and "OMP_WAIT_POLICY=active" in own.says
