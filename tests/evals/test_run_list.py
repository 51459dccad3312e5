"""`prefzoo ls`: each run's state, leader and time, from small files, without pandas or torch."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from called import prefzoo

from prefzoo.errors import UserError
from prefzoo.evals.boards.run_list import list_runs

GONE = 2**22 + 1  # a process number that Linux does not give


def write(folder: Path, *variants: str, ranks: dict[str, int] | None = None, failed: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True)
    names = "".join(f"  {name}: {{}}\n" for name in variants)
    (folder / "recipe.resolved.yaml").write_text(f"name: {folder.name}\nvariants:\n{names}")
    for name in variants:
        (folder / name).mkdir()
        file = "failed.json" if name in failed else "result.json"
        (folder / name / file).write_text(json.dumps({"costs": {"seconds": 60.0}}))
    if ranks is not None:
        (folder / "leaderboard.csv").write_text("variant\n")
        (folder / "verdict.json").write_text(json.dumps({"ranks": ranks}))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A finished run, one with a failed variant, one that was stopped, one that goes on, one whose process died."""
    write(tmp_path / "done", "dpo", "ipo", ranks={"dpo": 1, "base": 1, "ipo": 3})
    write(tmp_path / "part", "dpo", "ipo", ranks={"dpo": 1}, failed=("ipo",))
    (write(tmp_path / "stopped", "dpo", "ipo") / "ipo" / "result.json").unlink()
    for name, pid in (("deep/going", os.getpid()), ("dead", GONE)):
        folder = write(tmp_path / name, "dpo")
        (folder / ".lock.json").write_text(json.dumps({"pid": pid, "host": socket.gethostname()}))
    (write(tmp_path / "elsewhere", "dpo") / ".lock.json").write_text('{"pid": 1, "host": "another"}')
    os.utime(tmp_path / "stopped" / "dpo" / "result.json", (2e9, 2e9))
    return tmp_path


def test_states_leaders_and_times(results: Path) -> None:
    lines = list_runs(results)
    assert lines[0].folder == "stopped"  # changed last
    assert {line.folder: line.state for line in lines} == {
        "done": "finished", "part": "finished, 1 failed", "stopped": "stopped", "deep/going": "running",
        "dead": "stopped", "elsewhere": "running",
    }  # fmt: skip
    done = next(line for line in lines if line.folder == "done")
    assert (done.trained, done.leader, done.seconds) == (2, ("dpo",), 120.0)


def test_a_file_that_is_just_being_written_stops_nothing(results: Path) -> None:
    (results / "done" / "verdict.json").write_text('{"ran')
    (results / "done" / "dpo" / "result.json").write_text("")
    done = next(line for line in list_runs(results) if line.folder == "done")
    assert (done.leader, done.seconds) == ((), 60.0)


def test_the_command(results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert prefzoo(monkeypatch, "ls", str(results)) == 0
    out = capsys.readouterr().out
    assert any(line.split()[:4] == ["done", "finished", "2", "dpo"] for line in out.splitlines())
    assert prefzoo(monkeypatch, "ls", str(results), "--json") == 0
    assert {row["folder"] for row in json.loads(capsys.readouterr().out)} >= {"done", "deep/going"}
    assert prefzoo(monkeypatch, "ls", str(results / "none")) == 2
    with pytest.raises(UserError, match="no such folder"):
        list_runs(results / "none")
