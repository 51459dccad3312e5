"""Runs and comparisons as a notebook, and a Python prompt, show them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_runs import make_run, quick_run, share

from prefzoo.evals.boards.comparison import RunComparison, compare
from prefzoo.evals.boards.judged_files import rebuilt
from prefzoo.evals.boards.run_files import RunFiles, read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFiles:
    return read_run(quick_run(tmp_path_factory.mktemp("runs") / "quick"))


@pytest.fixture(scope="module")
def comparison(run: RunFiles) -> RunComparison:
    return compare([run.folder])


def test_a_run_shows_its_verdict_and_its_leaderboard(run: RunFiles) -> None:
    html, verdict = run._repr_html_(), json.loads((run.folder / "verdict.json").read_text())
    answer = f"{verdict['decision']} {verdict['advice']}"
    row = rebuilt(run).wide().set_index("variant").loc["simpo"]
    assert f"<td>{row['win_rate']}</td>" in html and "<td>50.0% [reference]</td>" in html
    assert f"<strong>{answer}</strong>" in html and html.index(answer) < html.index("<table")
    assert all(f"<td>{name}</td>" in html for name in ("simpo", "dpo", "cdpo", "ipo", "base"))
    assert repr(run) == f"<Run quick in {run.folder}: {answer}>"


def test_a_run_that_measured_nothing_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a<b>", {"dpo": share(20)})
    for name in ("leaderboard.csv", "verdict.json"):
        (folder / name).unlink()
    html = read_run(folder)._repr_html_()
    assert "Nothing was ranked yet" in html and "a&lt;b&gt;" in html and "<b>" not in html


@pytest.mark.slow
def test_a_comparison_shows_its_verdict_and_its_tables(comparison: RunComparison) -> None:
    html = comparison._repr_html_()
    assert html.startswith(f"<p><strong>{comparison.verdict.answer}</strong>") and html.count("<table") == 1
    assert "<!doctype" not in html and "<style" not in html  # a part of a page, not one
    first, *rows = repr(comparison).splitlines()
    assert first == comparison.verdict.answer and len(rows) == 1 + len(comparison.table)
    assert max(map(len, rows)) < 120
