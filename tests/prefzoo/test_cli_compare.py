"""`prefzoo compare` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from called import prefzoo

from prefzoo.evals.boards.run_files import read_run

RESULTS = Path(__file__).parents[2] / "results"
BOARD = read_run(RESULTS / "quickstart").long.set_index(["variant", "metric"])
QUICKSTART, ZOO = str(RESULTS / "quickstart"), str(RESULTS / "zoo")


def win_rate(of: str) -> str:
    """As a table shows the committed run's."""
    row = BOARD.loc[(of, "win_rate")]
    return f"{100 * row.value:.1f}% [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def test_a_table_with_its_footer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert prefzoo(monkeypatch, "compare", QUICKSTART, "--metric", "win_rate", "--metric", "words") == 0
    out = capsys.readouterr().out
    more = 100 * BOARD.loc[("simpo", "win_rate")].value - 50  # the base against itself
    assert win_rate("simpo") in out and f"{more:+.1f} p=" in out and "preference_accuracy" not in out
    assert "simpo: loss=simpo, beta=2.0, gamma=1.0" in out
    assert "With n = 100 prompts differences under " in out and max(map(len, out.splitlines())) <= 80


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
    difference = BOARD.loc[("simpo", "win_rate")].value - BOARD.loc[("dpo", "win_rate")].value
    assert read.loc["simpo", "win_rate_difference"] == pytest.approx(difference)
    assert json.loads((tmp_path / "out" / "json").read_text())["baseline"] == "dpo"
    assert (tmp_path / "out" / "html").read_text().startswith("<!doctype html>")
    assert f"| 1 | simpo | {win_rate('simpo')}; {100 * difference:+.1f} p=" in (tmp_path / "out" / "md").read_text()
    assert win_rate("simpo") in (tmp_path / "out" / "table").read_text()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"table", "md", "csv", "json", "html", "parquet"}
