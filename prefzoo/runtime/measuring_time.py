"""Record how long each part of measuring a model took, to plan evaluations with more prompts and seeds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefzoo.runtime import run_folders


@contextmanager
def timed(folder: Path, part: str, rows: int) -> Iterator[None]:
    """Record how long the block takes, unless an earlier record is slower per row, because cached values take no time.

    Args:
        folder: The model's folder in the run's folder.
        part: Name of the part: `answers`, `pairs`, `verdicts`, or a part whose time does not depend on their number.
        rows: Number of prompts or pairs; with 0, nothing is recorded.

    Returns:
        A context manager without a value.
    """
    start = time.monotonic()
    yield
    seconds, known = time.monotonic() - start, _read(folder)
    before = known.get(part, {"seconds": 0.0, "rows": 1})
    if rows and seconds / rows > before["seconds"] / before["rows"]:
        run_folders.write_json(folder / run_folders.MEASURING, known | {part: {"seconds": seconds, "rows": rows}})


def measuring_costs(folder: Path) -> dict[str, float]:
    """Return each part's seconds as `measuring PART` and its rows as `rows PART`; empty without records."""
    known = _read(folder)
    seconds = {f"measuring {part}": float(own["seconds"]) for part, own in known.items()}
    return seconds | {f"rows {part}": float(own["rows"]) for part, own in known.items()}


def _read(folder: Path) -> dict[str, dict[str, float]]:
    try:
        known = json.loads((folder / run_folders.MEASURING).read_text(encoding="utf-8"))
        return {part: own for part, own in known.items() if own["seconds"] >= 0 and own["rows"] > 0}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
