"""The command line, called in the process of the tests."""

from __future__ import annotations

import sys

import pytest

from prefzoo.cli import main


def prefzoo(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of `prefzoo WORDS`."""
    monkeypatch.setattr(sys, "argv", ["prefzoo", *words])
    try:
        main()
    except SystemExit as e:
        return int(e.code or 0)
    return 0
