"""Files of other tools, each of which holds what was measured on one model: how they are gathered and merged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prefzoo.errors import UserError
from prefzoo.evals.metrics.measure import Measured


def merge(files: Iterable[Path], read: Callable[[Path], tuple[str, dict[str, Any]]]) -> dict[str, Measured]:
    """Merge files by model; of a task that is in two, the later file counts.

    Args:
        files: in their order.
        read: returns the model's name and its benchmarks.

    Returns:
        What was measured on each model, by name, in the order of the files.
    """
    models: dict[str, dict[str, Any]] = {}
    for file in files:
        name, benchmarks = read(file)
        models[name] = models.get(name, {}) | benchmarks
    return {name: Measured([], [], [], [], [], [], benchmarks) for name, benchmarks in models.items()}


def files_in(path: Path, pattern: str, cure: str, where: str) -> list[Path]:
    """Return the file itself, or those that a folder holds at any depth.

    Args:
        path: A file or a folder.
        pattern: Of the names of files in a folder.
        cure: What to give, for messages.
        where: What to do if the folder holds none.

    Returns:
        The files of one folder after those of another, by name.

    Raises:
        UserError: There is nothing of that name, or no such file in the folder.
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
        UserError: It is not JSON; the message ends with the cure.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as e:
        raise UserError(f"{file}: is not JSON ({str(e).splitlines()[0]}); {cure}") from None
