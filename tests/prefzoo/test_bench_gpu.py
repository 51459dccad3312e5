"""The benchmark for a GPU, on a CPU with a model of no size: every tool trains, and the table has a line for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.mark.usefixtures("benchmarks")
def test_the_table_has_a_line_for_each_tool_and_ratios_to_trl() -> None:
    from plans import PLANS
    from report import gpu_table

    cases = PLANS["gpu"]
    numbers = {"trl": (8.0, 4.0, 4e9), "prefzoo": (5.0, 2.0, 1e9)}
    known = {
        cases[0].name: {
            tool: [{"first_seconds": first, "seconds": second, "peak_bytes": peak}]
            for tool, (first, second, peak) in numbers.items()
        }
    }
    here = {"versions": {"torch": "2.13.0"}, "hardware": {"gpu": "A card", "cores": 4}, "commit": "abc"}
    text = gpu_table("gpu", cases, known, "pairs.jsonl", here)
    assert "| small: 0.5B | 64 | TRL | 8.0 | 4.00 | 4.00 | 1.00 | 1.00 |" in text
    assert "| small: 0.5B | 64 | TRL with Liger (not measured yet) | - | - | - | - | - |" in text
    assert "| small: 0.5B | 64 | prefzoo | 5.0 | 2.00 | 1.00 | 2.00 | 0.25 |" in text
    assert sum(len(case.tools) for case in cases) == text.count("\n| ")
    assert "A card" in text and "torch 2.13.0" in text


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(("nth", "tool"), [(0, "trl"), (0, "prefzoo"), (3, "side")])
def test_every_tool_trains(nth: int, tool: str, run_folder: Path) -> None:
    from plans import PLANS

    case = PLANS["gpu-tiny"][nth]
    words = [*case.words(tool), "--rows", str(run_folder / "train.jsonl"), "--model", str(run_folder / "model")]
    done = subprocess.run(
        [sys.executable, str(BENCH / "case.py"), *words],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["pairs"] == case.pairs * case.losses and result["peak_bytes"] > 0
    assert ("first_seconds" in result) == (case.turns > 1)
