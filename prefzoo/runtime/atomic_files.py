"""Write files and folders so that, after a kill or a power loss, each is either complete or absent.

Everything is written to a hidden path beside its target, flushed to disk, and then renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefzoo.errors import UserError
from prefzoo.runtime.paths import DISK_FULL, UNWRITABLE, reason_of

FREE_SPACE = "free some space and run the same command to resume"


def flush_to_disk(path: Path) -> None:
    """Force the content of a file, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_into_place(partial: Path, target: Path) -> None:
    """Flush a finished file or folder to disk and rename it to `target`, replacing what was there."""
    below = [*partial.rglob("*")] if partial.is_dir() else []
    for path in [*(p for p in below if p.is_file()), *(p for p in below if p.is_dir()), partial]:
        flush_to_disk(path)
    if target.is_dir():  # a folder cannot be replaced by one rename; a kill right here means computing it again
        shutil.rmtree(target)
    partial.replace(target)
    flush_to_disk(target.parent)


def partial_path(target: Path) -> Path:
    """Return the hidden path that this process writes to before it renames the result to `target`."""
    return target.with_name(f".{target.name}.{os.getpid()}.partial")


@contextmanager
def write_atomically(target: Path) -> Iterator[Path]:
    """Yield the path to write to; when the block ends, move the result to `target`.

    A block that raises leaves `target` as it was.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    with partial_file(target) as partial:
        yield partial
        move_into_place(partial, target)


@contextmanager
def partial_file(target: Path) -> Iterator[Path]:
    """Yield the path to write to, for callers that move the result themselves; remove it if the block raises.

    Raises:
        UserError: The disk is full, or the folder cannot be written; `target` is unchanged.
    """
    partial = partial_path(target)
    try:
        yield partial
    except BaseException as e:
        remove_path(partial)
        reason = unwritable_reason(e, target)
        if reason:
            raise UserError(reason) from e
        raise


def disk_full_reason(error: BaseException) -> str:
    """Return why there was no space to write, or an empty string if the error has another cause."""
    if isinstance(error, OSError):
        return DISK_FULL.get(error.errno or 0, "")
    # safetensors gives the error number only in its message
    return next((reason for number, reason in DISK_FULL.items() if f"(os error {number})" in str(error)), "")


def unwritable_reason(error: BaseException, target: Path | None = None) -> str:
    """Return a message with a cure if an error means that a path cannot be written, else an empty string.

    Args:
        error: The exception.
        target: The path that was being written; None for the path that the error names.
    """
    full = disk_full_reason(error)
    if full:
        if target is None:
            return f"{full} ({getattr(error, 'filename', None) or 'writing'}); {FREE_SPACE}"
        return f"{target}: cannot be written, {full}; {FREE_SPACE}"
    path = target or (error.filename if isinstance(error, OSError) else None)
    if path is None or not isinstance(error, OSError) or error.errno not in UNWRITABLE:
        return ""
    reason = reason_of(OSError(error.errno, error.strerror))
    return f"{path}: {reason}; look at its permissions, or name another folder (--results, --out, PREFZOO_CACHE)"


def remove_path(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_partial_files(folder: Path, *, deep: bool = False, prefix: str = "") -> None:
    """Remove the partial files and folders that killed processes left in `folder`.

    Args:
        folder: The folder to clean.
        deep: Whether to clean all folders below it too.
        prefix: Start of the names of the targets whose partial files are removed; empty for all.
    """
    for path in [*(folder.rglob if deep else folder.glob)(f".{prefix}*.partial")]:
        remove_path(path)


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal text."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def resolve_inside(folder: Path, *names: str) -> Path:
    """Return `folder / names` after checking that it lies inside `folder`, symbolic links included.

    Raises:
        UserError: The path leads out of `folder`, or is `folder` itself.
    """
    path = folder.joinpath(*names)
    if not path.resolve().is_relative_to(folder.resolve()) or path.resolve() == folder.resolve():
        raise UserError(
            f"{path}: leads out of {folder}, to {path.resolve()}; remove the link, or choose another name or folder"
        )
    return path
