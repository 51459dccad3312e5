"""`prefzoo compare` as a user meets it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from prefzoo.cli import main

RESULTS = Path(__file__).parents[2] / "results"
QUICKSTART, ZOO = str(RESULTS / "quickstart"), str(RESULTS / "zoo")


def prefzoo(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prefzoo", *words])
    try:
        main()
    except SystemExit as e:
        return int(e.code or 0)
    return 0


def test_a_table_with_its_footer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert prefzoo(monkeypatch, "compare", QUICKSTART, "--metric", "win_rate", "--metric", "words") == 0
    out = capsys.readouterr().out
    assert "66.5% [58.5, 74.0]" in out and "+16.5 p=.002 *" in out and "preference_accuracy" not in out
    assert "simpo: loss=simpo, beta=2.0, gamma=1.0" in out
    assert "With n = 100 prompts differences under 11 points" in out and max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([ZOO, "--sort", "win_rate"], "not ranked by win_rate: another set of prompts (instruct:eval:100 and none)"),
        (["--format", "parquet"], "--format parquet: is binary, and no file is named; add --output FILE"),
        (["--metric", "wurds"], "--metric: nothing measured is called 'wurds'; did you mean 'words'"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "compare", QUICKSTART, *words) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1


def test_files_in_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("table", "md", "csv", "json", "html", "parquet"):
        words = ["compare", f"{QUICKSTART}/dpo", f"{QUICKSTART}/simpo", "--baseline", "dpo", "--format", form]
        words += ["--metric", "win_rate"]
        assert prefzoo(monkeypatch, *words, "--output", str(tmp_path / "out" / form)) == 0
    assert capsys.readouterr().out == ""
    read = pd.read_parquet(tmp_path / "out" / "parquet").set_index("variant")
    pd.testing.assert_frame_equal(read, pd.read_csv(tmp_path / "out" / "csv").set_index("variant"), check_dtype=False)
    assert read.loc["simpo", "win_rate_difference"] == pytest.approx(0.01)
    assert json.loads((tmp_path / "out" / "json").read_text())["baseline"] == "dpo"
    assert (tmp_path / "out" / "html").read_text().startswith("<!doctype html>")
    assert "| 1 | simpo | 66.5% [58.5, 74.0]; +1.0 p=" in (tmp_path / "out" / "md").read_text()
    assert "66.5% [58.5, 74.0]" in (tmp_path / "out" / "table").read_text()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"table", "md", "csv", "json", "html", "parquet"}
