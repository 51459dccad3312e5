"""Find and merge files of other tools, each of which holds the benchmarks of one model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prefzoo.errors import UserError
from prefzoo.evals.metrics.measure import Measured


def merge(files: Iterable[Path], read: Callable[[Path], tuple[str, dict[str, Any]]]) -> dict[str, Measured]:
    """Merge files by model. If two files have the same task, the later one counts.

    Args:
        files: paths of the files, the later one last.
        read: function that reads a file and returns the model's name and its benchmarks.

    Returns:
        The measurements of each model, by name, in the order of the files.
    """
    models: dict[str, dict[str, Any]] = {}
    for file in files:
        name, benchmarks = read(file)
        models[name] = models.get(name, {}) | benchmarks
    return {name: Measured([], [], [], [], [], [], benchmarks) for name, benchmarks in models.items()}


def files_in(path: Path, pattern: str, cure: str, where: str) -> list[Path]:
    """Return a file itself, or the matching files in a folder, at any depth.

    Args:
        path: A file or a folder.
        pattern: Glob pattern of the file names to look for in a folder.
        cure: End of the message if the path does not exist: what to give instead.
        where: End of the message if the folder has no matching file: what to do.

    Returns:
        The files, sorted by folder and then by name.

    Raises:
        UserError: The path does not exist, or the folder has no matching file.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; {cure}")
    files = sorted(path.rglob(pattern), key=lambda p: (str(p.parent), p.name))
    if not files:
        raise UserError(f"{path}: no {pattern} in it; {where}")
    return files


def read_json(file: Path, cure: str) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: The file is not JSON; the message ends with `cure`.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as e:
        raise UserError(f"{file}: is not JSON ({str(e).splitlines()[0]}); {cure}") from None
