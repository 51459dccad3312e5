"""Drop duplicates from archives of runs: a training that a later run reused is in both folders, but counts once."""

from __future__ import annotations

from collections.abc import Sequence

from prefzoo.evals.boards.selection import Entry
from prefzoo.runtime.run_folders import ARCHIVE_MARK


def without_copies(entries: Sequence[Entry]) -> list[Entry]:
    """Drop entries of archives if the same training with the same numbers is in the run itself or in a newer archive.

    Args:
        entries: variants of runs and of their archives.

    Returns:
        The other entries, in the same order.
    """
    live_first = sorted(entries, key=lambda e: e.run.folder.name, reverse=True)
    live_first.sort(key=lambda e: ARCHIVE_MARK in e.run.folder.name)
    first: dict[object, Entry] = {}
    for entry in live_first:
        first.setdefault(_content(entry), entry)
    kept = {id(entry) for entry in first.values()}
    return [e for e in entries if ARCHIVE_MARK not in e.run.folder.name or id(e) in kept]


def _content(entry: Entry) -> object:
    """Return what identifies a training and its numbers within the archives of one run."""
    run = entry.run.folder
    evals = entry.files.folder / "evals.json"
    if entry.files.result is None or not evals.is_file():
        return run, entry.files.name
    return run.parent, run.name.partition(ARCHIVE_MARK)[0], entry.files.result.key, evals.read_bytes()
