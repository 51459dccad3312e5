"""The command line, called in the process of the tests, and the text of the pairs that most of them train on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

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


def pairs_text(numbers: Iterable[int], verb: str = "Say") -> str:
    """The content of a JSON Lines file with a pair for each number."""
    pairs = ({"prompt": f"{verb} {i}", "chosen": f"It is {i}.", "rejected": f"No {i}{i}"} for i in numbers)
    return "".join(json.dumps(row) + "\n" for row in pairs)
