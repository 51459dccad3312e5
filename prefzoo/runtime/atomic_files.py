"""Files and folders that are whole or absent, through a kill and through a loss of power: write, sync, rename."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefzoo.errors import UserError

DISK_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file is too large",
}


def flush_to_disk(path: Path) -> None:
    """Have a file's content, or the names in a folder, reach the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def move_into_place(partial: Path, target: Path) -> None:
    """Move what was written beside `target` to its place; whatever was there goes first."""
    below = [*partial.rglob("*")] if partial.is_dir() else []
    for path in [*(p for p in below if p.is_file()), *(p for p in below if p.is_dir()), partial]:
        flush_to_disk(path)
    if target.is_dir():  # a folder cannot be replaced in one go; without it, what it held is made again
        shutil.rmtree(target)
    partial.replace(target)
    flush_to_disk(target.parent)


def partial_path(target: Path) -> Path:
    """Where this process writes `target` first. Nothing reads a hidden file."""
    return target.with_name(f".{target.name}.{os.getpid()}.partial")


@contextmanager
def write_atomically(target: Path) -> Iterator[Path]:
    """Yield the path to write `target` to first; at the end of the block it replaces `target` in one step.

    A block that raises leaves `target` as it was.

    Raises:
        UserError: the disk is full.
    """
    with partial_file(target) as partial:
        yield partial
        move_into_place(partial, target)


@contextmanager
def partial_file(target: Path) -> Iterator[Path]:
    """Where to write `target` first. What is half written when that fails goes at once: it takes the room.

    Raises:
        UserError: the disk is full; what was at `target` before is untouched.
    """
    partial = partial_path(target)
    try:
        yield partial
    except BaseException as e:
        remove_path(partial)
        why = disk_full_reason(e)
        if why:
            raise UserError(f"{target}: cannot be written, {why}; make room, the same command goes on") from e
        raise


def disk_full_reason(error: BaseException) -> str:
    """Why there was no room to write, or nothing where that is not what went wrong."""
    if isinstance(error, OSError):
        return DISK_FULL.get(error.errno or 0, "")
    # safetensors has the number in its text alone
    return next((why for number, why in DISK_FULL.items() if f"(os error {number})" in str(error)), "")


def remove_path(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_partial_files(folder: Path, *, deep: bool = False) -> None:
    """Remove what killed processes left half written in `folder`; `deep`: and in all folders below it."""
    for path in [*(folder.rglob if deep else folder.glob)(".*.partial")]:
        remove_path(path)


def sha256_of_file(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def resolve_inside(folder: Path, *names: str) -> Path:
    """`folder / names`, if what is written there ends up in `folder`, through links as well.

    Raises:
        UserError: it would not.
    """
    path = folder.joinpath(*names)
    if not path.resolve().is_relative_to(folder.resolve()) or path.resolve() == folder.resolve():
        raise UserError(
            f"{path}: leads out of {folder}, to {path.resolve()}; remove the link, or choose another name or folder"
        )
    return path
