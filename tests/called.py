"""The command line, called in the process of the tests."""

from __future__ import annotations

import sys

import pytest

from prefzoo.cli import main
from prefzoo.experiment.stages import dispatch as stages


def prefzoo(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of `prefzoo WORDS`; what an earlier call had opened is opened anew, as in a process of its own."""
    monkeypatch.setattr(sys, "argv", ["prefzoo", *words])
    stages.opened.cache_clear()
    try:
        main()
    except SystemExit as e:
        return int(e.code or 0)
    return 0
