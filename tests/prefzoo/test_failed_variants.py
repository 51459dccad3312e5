"""A variant that diverges is given up: the others go on, the table and the exit code say so, and it stays so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from prefzoo.cli import main
from prefzoo.evals.boards.run_files import read_run

WILD = "{loss: sft, train: {learning_rate: 1e30, max_grad_norm: 1e30, warmup: 0.0}}"


@pytest.fixture
def run(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)

    def _run(variants: str, *words: str) -> int:
        sets = ["--set", f"variants={variants}", "--set", "train.steps=4"]
        monkeypatch.setattr(sys, "argv", ["prefzoo", "run", "r.yaml", *sets, *words])
        try:
            main()
        except SystemExit as e:
            return int(e.code or 0)
        return 0

    return _run


@pytest.mark.slow
def test_the_others_go_on_and_it_is_not_tried_again_unasked(run, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    assert run(f"{{wild: {WILD}, dpo: null}}") == 3
    out = capsys.readouterr().out
    assert "wild failed: sft: the " in out and "training dpo: done" in out
    folder = Path("results/tiny")
    kept = json.loads((folder / "wild" / "failed.json").read_text())
    assert kept["step"] >= 2 and "lower train.learning_rate" in kept["reason"] and kept["loss"] == "sft"
    assert not (folder / "wild" / "checkpoint").exists() and not (folder / "wild" / "resume").exists()
    board = (folder / "leaderboard.md").read_text()
    assert "| failed | wild | - |" in board and f"wild failed (step {kept['step']}: sft: the " in board
    results = read_run(folder).variants
    assert results["wild"].failure is not None and results["wild"].failure.step == kept["step"]
    assert results["dpo"].failure is None and results["dpo"].result is not None

    assert run(f"{{wild: {WILD}, dpo: null}}") == 3
    out = capsys.readouterr().out
    assert f"wild: failed before with these settings at step {kept['step']}; --retry-failed" in out
    assert "training wild" not in out and "dpo: already trained" in out
    assert run(f"{{wild: {WILD}, dpo: null}}", "--retry-failed") == 3
    out = capsys.readouterr().out
    assert "training wild" in out and "dpo: already trained" in out

    assert run("{wild: {loss: sft}, dpo: null}") == 0  # other settings: no reason to think that they fail
    assert not (folder / "wild" / "failed.json").exists() and (folder / "wild" / "checkpoint").is_dir()
    assert "failed" not in (folder / "leaderboard.md").read_text()
    assert run(f"{{wild: {WILD}, dpo: null}}") == 3  # and nothing of other settings stays beside a failure
    assert sorted(p.name for p in (folder / "wild").iterdir()) == ["failed.json", "metrics.jsonl"]


@pytest.mark.slow
def test_where_all_fail_the_base_is_measured_still(run, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    assert run(f"{{wild: {WILD}}}", "--quiet") == 3
    out = capsys.readouterr().out
    assert "No variant was trained to its end. wild failed" in " ".join(out.split())
    assert "training" not in out.replace("was trained", "") and "Leaderboard" in out
    assert run(f"{{wild: {WILD}}}", "--fresh") == 3
    assert "training wild" in capsys.readouterr().out
