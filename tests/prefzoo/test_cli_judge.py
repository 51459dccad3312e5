"""`prefzoo judge` as a user meets it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from prefzoo.cli import main

RECIPE = """\
name: tiny
model: nowhere
data: {train: pairs.jsonl, eval: pairs.jsonl, columns: {prompt: question}}
variants: {dpo: }
evals: {judge: "own.py:longer"}
"""
OWN = "def longer(instruction, output_1, output_2):\n    return 1 + float(len(output_2) > len(output_1))\n"


def prefzoo(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prefzoo", *words])
    try:
        main()
    except SystemExit as e:
        return int(e.code or 0)
    return 0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{"question": f"q{i}", "chosen": "a" * (5 if i else 1), "rejected": "b" * 3} for i in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "r.yaml").write_text(RECIPE)
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_judge_is_measured_on_the_recipes_pairs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "judge", "r.yaml", "--out", "q.json") == 0
    out = capsys.readouterr().out
    assert "function:own.py:longer@" in out and "4 labelled pairs, 0 ties" in out
    assert "agrees with the label: 75.0%" in out and "longer answer wins: 100.0%" in out
    assert "longer answer is the labelled one: 75.0%" in out and "winner flips when seats swap: 0.0%" in out
    assert json.loads((place / "q.json").read_text())["agreement"]["n"] == 4


def test_a_judges_name_is_printed_as_it_is(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "package:x.py").write_text(OWN)  # a terminal's library reads :package: as a picture
    assert prefzoo(monkeypatch, "judge", "r.yaml", "--set", "evals.judge='package:x.py:longer'") == 0
    assert "function:package:x.py:longer@" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--pairs", "none.jsonl"], "none.jsonl"),
        (["--pairs", "pairs.jsonl"], "pairs.jsonl: row 1: prompt is missing or no text; labelled pairs need prompt,"),
        (["--set", "data.eval=null"], "r.yaml: data.eval is not set; name labelled pairs by --pairs FILE"),
        (["--set", "evals.judge=own.py:short"], "evals.judge: own.py has no function 'short'; it has longer"),
    ],
)
def test_mistakes(
    place: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "judge", "r.yaml", *words) == 2
    err = capsys.readouterr().err
    assert says in err and "Traceback" not in err
