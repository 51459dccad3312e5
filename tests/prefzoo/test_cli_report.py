"""`prefzoo report`: where the page and the pictures go, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sample_runs import quick_run

from prefzoo.cli import main


def report(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prefzoo", "report", *words])
    try:
        main()
    except SystemExit as e:
        return int(e.code or 0)
    return 0


@pytest.mark.slow
def test_the_page_and_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plots = tmp_path / "new" / "page.html", tmp_path / "plots"
    assert report(monkeypatch, str(quick_run(tmp_path / "run")), "--out", str(out), "--plots", str(plots)) == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    drawn = len(list(plots.iterdir()))
    assert drawn and capsys.readouterr().out == f"{out}\n{drawn} pictures in {plots}\n"


def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(monkeypatch, str(tmp_path)) == 2
    assert "not a run's folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_page_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert report(monkeypatch, str(quick_run(tmp_path / "run")), "--out", str(tmp_path / "file" / "page.html")) == 2
    err = capsys.readouterr().err
    assert "cannot be written" in err and "--out" in err and "Traceback" not in err
