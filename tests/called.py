"""Call the command line in the process of the tests, and write the pairs that most of them train on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import pytest

from prefzoo.cli import main


def prefzoo(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run `prefzoo WORDS` in this process, and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["prefzoo", *words])
    try:
        main()
    except SystemExit as e:
        return int(e.code or 0)
    return 0


def pairs_text(numbers: Iterable[int], verb: str = "Say") -> str:
    """Return the content of a JSON Lines file with a pair for each number."""
    pairs = ({"prompt": f"{verb} {i}", "chosen": f"It is {i}.", "rejected": f"No {i}{i}"} for i in numbers)
    return "".join(json.dumps(row) + "\n" for row in pairs)
