"""lm-eval's own command: the same scores as in process, and its files in the same table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prefzoo.cli import main
from prefzoo.errors import UserError
from prefzoo.evals.metrics.lm_eval_files import read_results
from prefzoo.evals.suites.benchmarks import run_benchmark
from prefzoo.evals.suites.tasks import SUITES, suite_names

LIMIT = 12


def by_command(model: Path, out: Path, tasks: list[str], *more: str) -> None:
    subprocess.run(
        [
            sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
            "--tasks", ",".join(tasks), "--include_path", str(SUITES), "--limit", str(LIMIT), "--device", "cpu",
            "--batch_size", "16", "--log_samples", "--output_path", str(out), *more,
        ],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_gives_the_same_scores(
    tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    plain = [s for s in suite_names() if s != "instructions"]
    by_command(tmp_path / "model", tmp_path / "out", plain)
    by_command(tmp_path / "model", tmp_path / "out", ["instructions"], "--apply_chat_template")
    ((_, theirs),) = read_results([tmp_path / "out"]).items()
    assert set(theirs.benchmarks) == set(suite_names())
    for suite in suite_names():
        ours, other = run_benchmark(tiny_model, tiny_tokenizer, suite, limit=LIMIT)[suite], theirs.benchmarks[suite]
        assert ours["value"] == pytest.approx(other["value"], rel=1e-6) and ours["n"] == other["n"] == LIMIT
        assert [(r["doc_id"], r["doc_hash"]) for r in ours["samples"]] == [
            (r["doc_id"], r["doc_hash"]) for r in other["samples"]
        ]
        assert [r["score"] for r in ours["samples"]] == pytest.approx([r["score"] for r in other["samples"]], rel=1e-5)
        assert (ours["metric"], ours["chat_template"], ours["higher_is_better"]) == (
            other["metric"], other["chat_template"], other["higher_is_better"]
        )  # fmt: skip


def write(folder: Path, name: str, scores: list[float], task: str = "k") -> Path:
    """A results file and its samples, in lm-eval's layout."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    file = place / "results_2026-01-01T00-00-00.000000.json"
    value = sum(scores) / len(scores)
    file.write_text(json.dumps({
        "results": {task: {"alias": task, "acc,none": value, "acc_stderr,none": 0.1}},
        "group_subtasks": {task: []}, "configs": {task: {"metric_list": [{"metric": "acc"}]}},
        "n-samples": {task: {"original": len(scores), "effective": len(scores)}},
        "higher_is_better": {task: {"acc": True}}, "model_name_sanitized": name, "chat_template": None,
        "task_hashes": {task: "abc"},
    }))  # fmt: skip
    lines = [{"doc_id": i, "doc_hash": f"h{i}", "filter": "none", "acc": s} for i, s in enumerate(scores)]
    (place / f"samples_{task}_2026-01-01T00-00-00.000000.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in lines)
    )
    return file


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prefzoo", "eval", "--lm-eval-results", *words])
    try:
        main()
    except SystemExit as e:
        return int(e.code or 0)
    return 0


def test_into_the_long_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "out", "sft", [1.0, 1.0, 0.0, 0.0])
    write(tmp_path / "out", "dpo", [1.0, 0.0, 0.0, 0.0])
    folder = tmp_path / "board"
    assert run(monkeypatch, str(tmp_path / "out"), "--base", "sft", "--out", str(folder)) == 0
    long = pd.read_csv(folder / "leaderboard.csv").set_index(["variant", "metric"])
    assert long.value["base", "k"] == 0.5 and long.value["dpo", "k_delta"] == -0.25
    assert long.suite["dpo", "k"] == "k@abc" and (folder / "dpo" / "benchmarks" / "k.jsonl").is_file()


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "sft", [1.0])
    assert run(monkeypatch, str(file), "--base", "stf") == 2
    assert "--base stf: no results of that model; did you mean 'sft'?" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    says = {
        "gone": "gone: no such file or folder; give what lm-eval wrote",
        "empty": "empty: no results_*.json in it",
        "bad.json": "bad.json: is not JSON",
        "other.json": "other.json: has no 'results'; give a results_*.json of lm-eval",
    }
    for name, words in says.items():
        with pytest.raises(UserError) as e:
            read_results([tmp_path / name])
        assert words in str(e.value)
    next(file.parent.glob("samples_*")).write_text("{}\n")
    with pytest.raises(UserError, match="1: not a sample of lm-eval"):
        read_results([file])
