"""Versions of packages, installed or only on the path."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from prefzoo.runtime.run_folders import environment
from prefzoo.runtime.versions import UNKNOWN, version_of
from prefzoo.version import __version__


def test_an_installed_package_has_the_version_of_its_distribution() -> None:
    assert version_of("numpy") == version("numpy")


@pytest.mark.parametrize(
    ("source", "expected"), [('__version__ = "1.2.3"\n', "1.2.3"), ("from os import name as __version__\n", UNKNOWN)]
)
def test_a_module_on_the_path_has_the_version_it_assigns(
    source: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "on_the_path.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert version_of("on-the-path") == expected


def test_what_is_not_there_has_none() -> None:
    assert version_of("no-such-package") is None


def test_a_run_records_its_own_version_without_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefzoo.runtime.run_folders.version_of", lambda name: None)
    assert environment()["versions"].keys() == {"python", "prefzoo"}
    assert environment()["versions"]["prefzoo"] == __version__
