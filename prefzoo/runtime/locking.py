"""Allow one run at a time in a folder, by a lock that the system releases when its holder ends in any way."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from prefzoo.errors import UserError
from prefzoo.runtime import atomic_files
from prefzoo.runtime.distributed import broadcast, process_state
from prefzoo.runtime.paths import RESULTS_CURE, make_folder
from prefzoo.runtime.run_folders import HOLDER

LOCK = ".lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder` while the block runs, and first remove partial files of killed runs.

    With several processes, the main process holds the lock for all.

    Raises:
        UserError: Another run holds the lock, or the file system has no locks; raised in every process.
    """
    lock, refusal = _acquire(folder) if process_state().is_main_process else (None, "")
    refusal = broadcast(refusal)
    if refusal:
        raise UserError(refusal)
    try:
        yield
    finally:
        if lock is not None:
            (folder / HOLDER).unlink(missing_ok=True)
            lock.release()


def _acquire(folder: Path) -> tuple[FileLock | None, str]:
    """Return the lock and an empty string, or None and the reason why the lock is refused."""
    make_folder(folder, RESULTS_CURE)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None, f"{folder}: {_holder(folder)}; wait for it or end it, or give another --results"
    except NotImplementedError:
        return None, f"{folder}: is on a file system without locks; choose a --results folder on one that has them"
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(timespec="seconds")}
    (folder / HOLDER).write_text(json.dumps(holder), encoding="utf-8")
    atomic_files.flush_to_disk(folder)
    atomic_files.remove_partial_files(folder, deep=True)
    return lock, ""


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} has been running here since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "another process is running here"
