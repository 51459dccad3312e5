"""Files and folders that are whole or absent, through a kill and through a loss of power: write, sync, rename."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def sync(path: Path) -> None:
    """Have a file's content, or the names in a folder, reach the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def publish(partial: Path, target: Path) -> None:
    """Move what was written beside `target` to its place; whatever was there goes first."""
    inside = [*partial.rglob("*")] if partial.is_dir() else []
    for path in [*(p for p in inside if p.is_file()), *(p for p in inside if p.is_dir()), partial]:
        sync(path)
    if target.is_dir():  # a folder cannot be replaced in one go; without it, what it held is made again
        shutil.rmtree(target)
    partial.replace(target)
    sync(target.parent)


def partial_of(target: Path) -> Path:
    """Where this process writes `target` first. Nothing reads a hidden file."""
    return target.with_name(f".{target.name}.{os.getpid()}.partial")


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in `folder`."""
    for path in folder.glob(".*.partial"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
