"""`prefzoo compare` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from called import prefzoo
from sample_runs import pairs_run, quick_run

from prefzoo.evals.boards.run_files import read_run


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_run(tmp_path_factory.mktemp("runs") / "quickstart")


@pytest.fixture(scope="module")
def board(quick: Path) -> pd.DataFrame:
    return read_run(quick).long.set_index(["variant", "metric"])


def win_rate(board: pd.DataFrame, name: str) -> str:
    """Return a variant's win rate as a table shows it."""
    row = board.loc[(name, "win_rate")]
    return f"{100 * row.value:.1f}% [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def test_a_table_with_its_footer(
    quick: Path, board: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert prefzoo(monkeypatch, "compare", str(quick), "--metric", "win_rate", "--metric", "words") == 0
    out = capsys.readouterr().out
    more = 100 * board.loc[("simpo", "win_rate")].value - 50  # the base against itself
    assert win_rate(board, "simpo") in out and f"{more:+.1f} p=" in out and "preference_accuracy" not in out
    assert "simpo: loss=simpo" in out
    assert "With n = 100 prompts differences under " in out and max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["zoo", "--sort", "win_rate"], "by win_rate: different set of prompts (instruct:eval:100 and none)"),
        (["--format", "parquet"], "--format parquet: is binary and needs a file; add --output FILE"),
        (["--metric", "wurds"], "--metric: nothing measured is called 'wurds'; did you mean 'words'"),
    ],
)
def test_a_mistake_is_one_line(
    quick: Path, words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pairs_run(tmp_path / "zoo")
    monkeypatch.chdir(tmp_path)
    assert prefzoo(monkeypatch, "compare", str(quick), *words) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_files_in_every_format(
    quick: Path, board: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for form in ("table", "md", "csv", "json", "html", "parquet"):
        words = ["compare", f"{quick}/dpo", f"{quick}/simpo", "--baseline", "dpo", "--format", form]
        words += ["--metric", "win_rate"]
        assert prefzoo(monkeypatch, *words, "--output", str(tmp_path / "out" / form)) == 0
    assert capsys.readouterr().out == ""
    read = pd.read_parquet(tmp_path / "out" / "parquet").set_index("variant")
    pd.testing.assert_frame_equal(read, pd.read_csv(tmp_path / "out" / "csv").set_index("variant"), check_dtype=False)
    difference = board.loc[("simpo", "win_rate")].value - board.loc[("dpo", "win_rate")].value
    assert read.loc["simpo", "win_rate_difference"] == pytest.approx(difference)
    assert json.loads((tmp_path / "out" / "json").read_text())["baseline"] == "dpo"
    assert (tmp_path / "out" / "html").read_text().startswith("<!doctype html>")
    assert (
        f"| 1 | simpo | {win_rate(board, 'simpo')}; {100 * difference:+.1f} p=" in (tmp_path / "out" / "md").read_text()
    )
    assert win_rate(board, "simpo") in (tmp_path / "out" / "table").read_text()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"table", "md", "csv", "json", "html", "parquet"}
