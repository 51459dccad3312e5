"""Which benchmark is meant: an embedded suite, a task file or folder of the user's own, or one of lm-eval's by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from prefzoo.errors import UserError, did_you_mean
from prefzoo.runtime.versions import version_of

SUITES = Path(__file__).parent
YAML = (".yaml", ".yml")
READ = (*YAML, ".py", ".json", ".jsonl", ".csv", ".parquet", ".txt")  # what a task's folder may hold for it


def known() -> list[str]:
    """Names of the embedded suites."""
    return sorted(p.stem for p in SUITES.glob("*/*.yaml") if p.stem == p.parent.name)


def is_benchmark(spec: str, folder: Path) -> bool:
    """Whether `spec` is meant as a benchmark; else it names prompts. Nothing is loaded to find out."""
    place = folder / spec
    if spec in known() or place.suffix in YAML or place.is_dir():
        return True
    return not (spec.startswith("instruct:") or place.suffix or place.exists())


def check_names(specs: Sequence[str], folder: Path) -> None:
    """Raises UserError, a line per benchmark that cannot be found."""
    faults = [fault for spec in specs if (fault := _fault(spec, folder))]
    if faults:
        raise UserError(faults)


def _fault(spec: str, folder: Path) -> str:
    if spec in known():
        return ""
    place, at = folder / spec, "evals.benchmarks"
    if place.is_dir():
        named = [p for p in _files(place) if p.suffix in YAML and isinstance(_mapping(p), dict)]
        return "" if named else f"{at}: {spec}: no task file in this folder; put a .yaml with `task: NAME` there"
    if place.suffix in YAML:
        return _file_fault(at, spec, place)
    names = stock().all_tasks
    if spec in names:
        return ""
    have = ", ".join(known())
    meant = did_you_mean(spec, known()) or did_you_mean(spec, names)
    return f"{at}: no suite {spec!r}{meant}; embedded are {have}; others are lm-eval's tasks by name, or a .yaml file"


def _file_fault(at: str, spec: str, place: Path) -> str:
    if not place.is_file():
        return f"{at}: {spec}: no such file; paths are relative to the recipe, or to the current folder"
    found = _mapping(place)
    if isinstance(found, str):
        return f"{at}: {spec}: {found}"
    if not (found.get("task") or found.get("group")):
        return f"{at}: {spec}: has neither `task:` nor `group:`; an lm-eval task file names itself by `task: NAME`"
    return ""


def _mapping(path: Path) -> dict[str, Any] | str:
    """A task file's fields, without running the functions that it names; or what is wrong with it."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        found = load_yaml(path, resolve_func=False)
    except (yaml.YAMLError, OSError, ValueError) as e:
        return f"is no YAML of a task ({str(e).splitlines()[0]}); an lm-eval task file starts with `task: NAME`"
    return dict(found)


@lru_cache(maxsize=1)
def stock() -> Any:
    """lm-eval's manager with its own tasks, which takes seconds to build."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def resolved(spec: str, folder: Path) -> tuple[Any, list[str]]:
    """lm-eval's task manager, and what to ask it for.

    Raises:
        UserError: no such benchmark.
    """
    check_names([spec], folder)
    from lm_eval.tasks import TaskManager

    place = SUITES / spec if spec in known() else folder / spec
    if place.is_dir():
        manager = TaskManager(include_path=str(place), include_defaults=False)
        return manager, [*manager.all_groups] or [*manager.all_subtasks]
    if place.suffix in YAML:
        return TaskManager(include_path=str(place.parent), include_defaults=False), [str(place.resolve())]
    return stock(), [spec]


def suite_key(spec: str, folder: Path = Path()) -> str:
    """Hash of what a result depends on besides the model: the task's files and its data's, or lm-eval's version."""
    place = SUITES / spec if spec in known() else folder / spec
    digest = hashlib.sha256(str(version_of("lm-eval")).encode())
    if place.suffix not in YAML and not place.is_dir():
        digest.update(spec.encode())
        return digest.hexdigest()[:16]
    home = place if place.is_dir() else place.parent
    files = {p for p in _files(home) if p.suffix in READ}
    tasks = [_mapping(p) for p in files if p.suffix in YAML]
    files |= {p for task in tasks if isinstance(task, dict) for p in _data_files(task) if p.is_file()}
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _files(home: Path) -> list[Path]:
    return sorted(p for p in home.iterdir() if p.is_file())


def _data_files(task: dict[str, Any]) -> Iterator[Path]:
    """Paths under `dataset_kwargs.data_files`, of any shape that datasets takes."""
    left = [(task.get("dataset_kwargs") or {}).get("data_files")]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield Path(value)
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value
