"""What a user gets of an error: folders that cannot be written are a line with its cure, the unexpected a file too."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo

from prefzoo.cli.errors import reported_errors
from prefzoo.errors import UserError, VariantFailed
from prefzoo.runtime import crash, paths
from prefzoo.runtime.atomic_files import unwritable_reason, write_atomically
from prefzoo.runtime.plugins import describe_error

A_FILE = "a file is in the place of a folder"
CANNOT = f"cannot be written, {A_FILE}"
Prepare = Callable[[Path], None]


@pytest.fixture
def place(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.delenv("PREFZOO_DEBUG", raising=False)
    monkeypatch.chdir(run_folder)
    (run_folder / "file").write_text("here first")
    return run_folder


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("results", "prepare", "line"),
    [
        ("file", None, f"--results file/tiny: {CANNOT} "),
        ("file/below/it", None, f"--results file/below/it/tiny: {CANNOT} "),
        ("r", lambda p: (p / "r").mkdir() or (p / "r/tiny").write_text(""), f"--results r/tiny: {CANNOT}"),
        (
            "r",
            lambda p: (p / "r/tiny").mkdir(parents=True) or (p / "r/tiny/dpo").write_text(""),
            f"--results r/tiny/dpo: {CANNOT}",
        ),
        ("x" * 300, None, "cannot be written, its name is too long"),
    ],
)  # fmt: skip
def test_results_that_cannot_be_written_are_one_line_before_the_model_is_loaded(
    place: Path, command: str, results: str, prepare: Prepare | None, line: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if prepare is not None:
        prepare(place)
    monkeypatch.setattr("prefzoo.engine.models.load", lambda *_, **__: pytest.fail("the model was loaded"))
    assert prefzoo(monkeypatch, command, "r.yaml", "--results", results) == 2
    err = capsys.readouterr().err
    assert line in err and err.count("\n") == 1 and err.endswith("; name a folder that can be written with --results\n")
    assert (place / "file").read_text() == "here first"


def test_a_cache_that_is_a_file_is_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(place / "file"))
    for command in ("run", "check"):
        assert prefzoo(monkeypatch, command, "r.yaml") == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: cache folder {place / 'file'}: {CANNOT} (")
        assert err.endswith("; set PREFZOO_CACHE to a folder that can be written\n") and err.count("\n") == 1
    with pytest.raises(UserError, match="cache folder|set PREFZOO_CACHE"):
        paths.cache_dir("reference")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("schema", "--out", "file/schema.json"), f"--out file: {CANNOT} ("),
        (("judge", "r.yaml", "--out", "file/numbers.json"), f"--out file: {CANNOT} ("),
        (
            ("eval", "model", "--suite", "instruct:eval:2", "--out", "file"),
            f"--out file: {CANNOT} (",
        ),
        (
            ("pairs", "--model", "model", "--prompts", "instruct:eval:2", "--out", "file/pairs.jsonl"),
            f"--out file: {CANNOT} (",
        ),
    ],
)
def test_outputs_that_cannot_be_written_are_one_line_before_any_work(
    place: Path, words: tuple[str, ...], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, *words) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {line}") and err.count("\n") == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC])
def test_what_the_system_refuses_in_the_middle_of_a_run_is_one_line(
    place: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As from a disk that is mounted read-only after an error, or that fills up."""

    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number), "results/tiny/recipe.resolved.yaml")

    monkeypatch.setattr("prefzoo.runtime.atomic_files.move_into_place", refused)
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "variants={dpo: }", "--set", "train.steps=1") == 2
    err = capsys.readouterr().err
    reason = paths.DISK_FULL.get(number) or paths.UNWRITABLE[number]
    assert f"cannot be written, {reason}" in err and err.count("\n") == 1 and err.startswith("error: ")
    assert "free some space" in err if number == errno.ENOSPC else "--results" in err
    assert not [*place.rglob("*.partial")]


def test_a_folder_in_the_place_of_a_file_is_told_and_nothing_else_is_hidden(tmp_path: Path) -> None:
    told = pytest.raises(UserError, match="x.json: cannot be written, a folder is in the place of a file; look at")
    with told, write_atomically(tmp_path / "x.json") as partial:
        raise IsADirectoryError(errno.EISDIR, "is a directory", str(partial))
    assert unwritable_reason(FileNotFoundError(errno.ENOENT, "no such file", "x")) == ""
    assert unwritable_reason(PermissionError(errno.EACCES, "permission denied")) == ""  # of no path: not of a file
    told = pytest.raises(UserError, match="^--out .*permission is denied .*; cure$")
    with told, pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        paths.check_writable(tmp_path / "below", "--out", "cure")
    paths.check_writable(tmp_path / "below", "--out", "cure")
    assert not (tmp_path / "below").exists()


def test_the_unexpected_is_a_line_and_a_file_without_secrets(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise LookupError("no entry for\nsecret-of-mine")

    monkeypatch.setenv("MY_API_KEY", "secret-of-mine")
    monkeypatch.setattr("prefzoo.cli.losses.show_losses", broken)
    assert prefzoo(monkeypatch, "losses") == 1
    err = capsys.readouterr().err
    (file,) = (place / "cache" / crash.FOLDER).iterdir()
    line = broken.__code__.co_firstlineno + 1
    assert err.startswith("error: unexpected: ") and f"test_errors.py:{line}: LookupError: no entry for ***" in err
    assert str(file) in err and err.count("\n") == 1 and "Traceback" not in err
    text = file.read_text()
    assert text.startswith("prefzoo losses\nprefzoo ") and "Traceback (most recent call last)" in text
    assert "LookupError" in text and "secret-of-mine" not in text
    monkeypatch.setenv("PREFZOO_DEBUG", "1")
    with pytest.raises(LookupError):
        prefzoo(monkeypatch, "losses")


def test_a_traceback_goes_elsewhere_where_the_cache_cannot_be_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(place / "file"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(place))
    file = crash.write_traceback(ValueError("x"), ["prefzoo"])
    assert file is not None and file.parent == place
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(place / "file"))
    assert crash.write_traceback(ValueError("x"), ["prefzoo"]) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("a"), 2), (VariantFailed("a", 3), 3), (BrokenPipeError(errno.EPIPE, "pipe"), 141), (ValueError(), 1)],
)
def test_exit_codes(error: Exception, code: int, place: Path) -> None:
    with pytest.raises(SystemExit) as left, reported_errors():
        raise error
    assert left.value.code == code


def test_an_error_of_prefzoo_itself_names_its_line() -> None:
    with pytest.raises(AssertionError) as caught:
        from prefzoo.experiment.executors import run_stage
        from prefzoo.experiment.stages.stage import Stage

        run_stage(None, Stage("none"))  # type: ignore[arg-type]
    shown = describe_error(caught.value)
    assert "AssertionError" in shown and "\n" not in shown
