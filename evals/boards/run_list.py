"""List the runs under a folder with their state, leader and time, from their small files alone."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from prefzoo.errors import UserError
from prefzoo.runtime.run_folders import BASE, FAILED, HOLDER, RESOLVED, VERDICT

RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"
BOARD = "leaderboard.csv"


@dataclass(frozen=True)
class RunLine:
    """One run of the list.

    Attributes:
        folder: Path of the run's folder, relative to the listed folder.
        state: RUNNING; FINISHED, with the number of failed variants if any failed; or STOPPED, if the same command can
            resume the run.
        trained: Number of finished trainings.
        leader: Names of the variants of rank 1, best first; empty if nothing is ranked.
        seconds: Total time of the finished trainings.
        changed: Time at which a file of the run last changed.
    """

    folder: str
    state: str
    trained: int
    leader: tuple[str, ...]
    seconds: float
    changed: datetime


def list_runs(root: Path) -> list[RunLine]:
    """Return every run under a folder, the most recently changed first.

    Raises:
        UserError: The folder does not exist.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the one that prefzoo run wrote to (--results)")
    lines = [_line(root, path.parent) for path in root.rglob(RESOLVED)]
    return sorted(lines, key=lambda line: (line.changed, line.folder), reverse=True)


def _line(root: Path, folder: Path) -> RunLine:
    results = [_json(path) for path in folder.glob("*/result.json")]
    files = [path for path in (*folder.glob("*"), *folder.glob("*/*.json*")) if path.is_file()]
    name = folder.relative_to(root).as_posix()
    return RunLine(
        folder.name if name == "." else name, _state(folder), len(results), _leader(_json(folder / VERDICT)),
        sum(float(one.get("costs", {}).get("seconds", 0)) for one in results),
        datetime.fromtimestamp(max(path.stat().st_mtime for path in files)),
    )  # fmt: skip


def _state(folder: Path) -> str:
    if _is_held(_json(folder / HOLDER)):
        return RUNNING
    recipe = yaml.load(  # libyaml's loader, if installed, is ten times as fast
        (folder / RESOLVED).read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
    names = [] if (folder / "sweep.json").exists() else list(recipe.get("variants", ()))
    without = [name for name in names if not (folder / name / "result.json").exists()]
    failed = [name for name in without if (folder / name / FAILED).exists()]
    if without != failed or not (folder / BOARD).exists():
        return STOPPED
    return f"{FINISHED}, {len(failed)} failed" if failed else FINISHED


def _is_held(holder: Mapping[str, Any]) -> bool:
    """Return whether the process that holds the run is alive; a process of another machine counts as alive."""
    if not holder:
        return False
    if holder.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _leader(verdict: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, rank in verdict.get("ranks", {}).items() if rank == 1 and name != BASE)


def _json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if the file is missing or only half written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
