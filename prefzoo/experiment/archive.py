"""Archive a run's folder beside itself before results of other settings replace it.

`results/mine@2026-11-28-035107` is a run's folder like any other, which `leaderboard`, `compare`, `report` and `eval`
read. Weights are hard links if the file system has them: an archive takes no space until the run's own weights are
removed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from prefzoo.runtime import atomic_files, run_folders
from prefzoo.runtime.run_folders import ARCHIVE_MARK

EVIDENCE = ("result.json", run_folders.FAILED, "evals.json", "validation*.json", "resume/*.safetensors")


def archives_of(folder: Path) -> list[Path]:
    """Return the archives of a run's folder, newest first."""
    return sorted((path for path in folder.parent.glob(f"{folder.name}{ARCHIVE_MARK}*") if path.is_dir()), reverse=True)


def holds(folder: Path, names: Sequence[str]) -> bool:
    """Return whether archives hold everything that was trained and measured in these folders of a run."""
    archives = archives_of(folder)
    return all(any(_is_in(folder / name, one / name) for one in archives) for name in names)


def _is_in(folder: Path, archived: Path) -> bool:
    files = [path for pattern in EVIDENCE for path in folder.glob(pattern)]
    copies = [archived / path.relative_to(folder) for path in files]
    return all(_equal(*pair) for pair in zip(files, copies, strict=True))


def _equal(file: Path, copy: Path) -> bool:
    if file.suffix == ".safetensors":  # its name ends in the hash of its content
        return copy.is_file()
    try:
        return file.read_bytes() == copy.read_bytes()
    except OSError:
        return False


def write_archive(folder: Path) -> Path:
    """Copy a run's folder to a dated one beside it, completely or not at all; nothing is removed.

    Returns:
        The archive.
    """
    atomic_files.remove_partial_files(folder.parent, prefix=f"{folder.name}{ARCHIVE_MARK}")
    stamp = f"{datetime.now():%Y-%m-%d-%H%M%S}"
    target, number = folder.with_name(f"{folder.name}{ARCHIVE_MARK}{stamp}"), 2
    while target.exists():
        target, number = folder.with_name(f"{folder.name}{ARCHIVE_MARK}{stamp}-{number}"), number + 1
    with atomic_files.write_atomically(target) as partial:
        copy_tree(folder, partial)
    return target


def copy_tree(folder: Path, target: Path) -> None:
    """Copy a folder without hidden files and a scheduler's scripts; weights are linked, since nothing changes them."""
    hidden = shutil.ignore_patterns(".*", "slurm")
    shutil.copytree(folder, target, ignore=hidden, copy_function=_linked_or_copied)


def _linked_or_copied(source: str, target: str) -> None:
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
            return
        except OSError:  # a file system without links
            pass
    shutil.copy2(source, target)


def adopt(source: Path, target: Path) -> None:
    """Take a finished training in another folder as the trial `target`.

    A folder in the run is renamed, since the recipe no longer has it; one in an archive stays there.
    """
    if source.parent == target.parent:
        atomic_files.remove_path(target)
        source.rename(target)
    else:
        with atomic_files.write_atomically(target) as partial:
            copy_tree(source, partial)
    result = json.loads((target / "result.json").read_text(encoding="utf-8"))
    run_folders.write_json(target / "result.json", {**result, "variant": target.name})
