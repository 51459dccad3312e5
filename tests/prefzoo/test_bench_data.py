"""The benchmark of data's preparation: what a killed measurement took is added, and the parts are told apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "benchmarks"
BEFORE = {"seconds": 500.0, "cpu_seconds": 400.0, "peak_bytes": 10**15, "starts": 2}


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.mark.usefixtures("benchmarks")
def test_what_killed_starts_took_is_added(tmp_path: Path) -> None:
    from case import taken_so_far

    file = tmp_path / "so_far.json"
    with taken_so_far(file) as earlier:
        assert earlier == {"seconds": 0.0, "cpu_seconds": 0.0, "peak_bytes": 0, "starts": 1}
    file.write_text(json.dumps(BEFORE))
    with taken_so_far(file) as earlier:
        assert earlier == {**BEFORE, "starts": 3}


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
def test_rows_are_made_up_once_as_texts_or_as_conversations(tmp_path: Path) -> None:
    from bench import made_up

    texts, talks = (
        [json.loads(line) for line in made_up(3, tmp_path / name, messages=messages).read_text().splitlines()]
        for name, messages in (("a", False), ("b", True))
    )
    assert [[row[n] for n in row] for row in texts] == [[row[n][0]["content"] for n in row] for row in talks]
    (tmp_path / "a").write_text("as it is")
    assert made_up(3, tmp_path / "a").read_text() == "as it is"


@pytest.mark.usefixtures("benchmarks")
def test_the_parts_of_a_preparation_are_told_unless_it_was_killed() -> None:
    from plans import PLANS
    from report import table

    case = PLANS["data"][1]
    one: dict[str, Any] = {"seconds": 10.0, "cpu_seconds": 12.0, "peak_bytes": 1e9, "starts": 1}
    known = {
        case.name: {"trl": [one], "prefzoo": [{**one, "parts": {"reading": 1.0, "auditing": 2.0, "tokenising": 9.0}}]}
    }
    here = {"versions": {}, "hardware": {"gpu": None, "processor": "A chip", "cores": 2}, "commit": "abc"}
    text = table("data", [case], known, "rows.jsonl", here)
    assert "- 20,000 pairs prepared, TRL: 2,000 pairs/s, 0.60 ms of processor time each\n" in text
    assert "each (reading 0.05, auditing 0.10, tokenising 0.45)\n" in text
    known[case.name]["prefzoo"][0]["starts"] = 3
    assert "each, in 3 starts, each of which reads and audits anew\n" in table("data", [case], known, "rows", here)


@pytest.mark.slow
def test_a_measurement_goes_on_from_what_is_kept(tmp_path: Path, run_folder: Path) -> None:
    def measured() -> dict[str, Any]:
        words = [
            "prefzoo",
            "--prepare",
            "--rows",
            str(run_folder / "train.jsonl"),
            "--model",
            str(run_folder / "model"),
        ]
        done = subprocess.run(
            [sys.executable, str(BENCH / "case.py"), *words, "--keep", str(tmp_path / "kept")],
            capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    first = measured()
    assert first["starts"] == 1 and {*first["parts"]} == {"reading", "auditing", "tokenising"}
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept" / "prefzoo" / "tokens").iterdir()}
    (tmp_path / "kept" / "prefzoo" / "so_far.json").write_text(json.dumps(BEFORE))
    again = measured()
    assert (again["starts"], again["peak_bytes"]) == (3, 10**15) and again["cpu_seconds"] > BEFORE["cpu_seconds"]
    assert files and files == {path: path.stat().st_mtime_ns for path in files}
