"""One run at a time in a folder: a lock that the system takes back when its holder ends, however it ends."""

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

LOCK, HOLDER = ".lock", ".lock.json"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """While it lasts, nobody else runs in `folder`. Of several processes the main one holds the lock for all.

    What a killed run left half written in it goes first: nobody else can be writing it now.

    Raises:
        UserError: somebody does; in every process.
    """
    lock, refused = _taken(folder) if process_state().is_main_process else (None, "")
    refused = broadcast(refused)
    if refused:
        raise UserError(refused)
    try:
        yield
    finally:
        if lock is not None:
            (folder / HOLDER).unlink(missing_ok=True)
            lock.release()


def _taken(folder: Path) -> tuple[FileLock | None, str]:
    """The lock, or why it is not to be had."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None, f"{folder}: {_holder(folder)}; wait for it or end it, or give another --results"
    except NotImplementedError:  # a file system without locks
        return None, f"{folder}: lies on a file system without locks; give a --results on one that has them"
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(timespec="seconds")}
    (folder / HOLDER).write_text(json.dumps(holder), encoding="utf-8")
    atomic_files.flush_to_disk(folder)
    atomic_files.remove_partial_files(folder, deep=True)
    return lock, ""


def _holder(folder: Path) -> str:
    try:
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']} has been running here since {found['since']}"
    except (OSError, ValueError, KeyError):
        return "another process is running here"
