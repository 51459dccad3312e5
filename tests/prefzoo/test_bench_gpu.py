"""The benchmark for a GPU, on a CPU with a model of no size: every tool trains, and the table has a line for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefzoo.engine import models

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


@pytest.mark.usefixtures("benchmarks")
def test_a_benchmark_goes_on_where_it_stopped_also_outside_a_repository(tmp_path: Path) -> None:
    from bench import _code, _known

    here = {"commit": None, "versions": {"torch": "2.11.0"}, "hardware": {"gpu": "A card"}}
    identity = {"rows": "pairs.jsonl", "environment": here, "code": _code()}
    measured = {"small": {"trl": [{"seconds": 1.0}], "prefzoo": [{"failed": "out of memory"}]}}
    file = tmp_path / "gpu.json"
    assert _known(file, identity) == {}
    file.write_text(json.dumps({**identity, "measured": measured}))
    assert _known(file, identity) == {"small": {"trl": [{"seconds": 1.0}], "prefzoo": []}}
    for other in ({"code": "x"}, {"rows": "others.jsonl"}, {"environment": here | {"versions": {"torch": "2.13.0"}}}):
        assert _known(file, identity | other) == {}


@pytest.mark.usefixtures("benchmarks")
def test_a_tool_that_fails_on_a_gpu_does_not_end_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bench
    from plans import PLANS

    def run(*_: Any, timeout: float | None, **__: Any) -> Any:
        if timeout is None:
            return subprocess.CompletedProcess([], 1, "", "ValueError: no such loss\n")
        if not crashes:
            raise subprocess.TimeoutExpired([], timeout)
        return subprocess.CompletedProcess([], 1, "", "Traceback\n\ntorch.OutOfMemoryError: CUDA out of memory\n\n")

    monkeypatch.setattr(bench.subprocess, "run", run)
    case, crashes = PLANS["gpu"][0], True
    arguments = tmp_path / "rows.jsonl", "model", tmp_path
    assert bench._measure(case, "trl", *arguments) == {"failed": "torch.OutOfMemoryError: CUDA out of memory"}
    crashes = False
    assert bench._measure(case, "trl", *arguments) == {"failed": f"took longer than {bench.LONGEST} s"}
    with pytest.raises(SystemExit, match="no such loss"):
        bench._measure(PLANS["gpu-tiny"][0], "trl", *arguments)


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
def test_a_random_model_needs_no_other_than_a_tokenizer_at_hand(
    tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bench

    monkeypatch.setattr(bench, "find_model", lambda *_: pytest.fail("the demo's model was asked for"))
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    model, tokenizer = models.load(
        str(bench._random_model("tiny", tmp_path / "model", tmp_path / "tokenizer")), tmp_path
    )
    assert model.config.vocab_size > len(tokenizer) >= len(tiny_tokenizer)


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
