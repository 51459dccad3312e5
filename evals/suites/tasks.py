"""Find a benchmark: an embedded suite, a user's task file or folder, or an lm-eval task by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from prefzoo.errors import UserError, did_you_mean
from prefzoo.runtime.cache import cached
from prefzoo.runtime.versions import version_of

SUITES = Path(__file__).parent
YAML = (".yaml", ".yml")
READ = (*YAML, ".py", ".json", ".jsonl", ".csv", ".parquet", ".txt")  # suffixes of files in a task's folder that count


def suite_names() -> list[str]:
    """Return the names of the embedded suites."""
    return sorted(p.stem for p in SUITES.glob("*/*.yaml") if p.stem == p.parent.name)


def is_benchmark(spec: str, folder: Path) -> bool:
    """Return whether `spec` names a benchmark and not a set of prompts, without loading anything."""
    path = folder / spec
    if spec in suite_names() or path.suffix in YAML or path.is_dir():
        return True
    return not (spec.startswith("instruct:") or path.suffix or path.exists())


def check_names(specs: Sequence[str], folder: Path) -> None:
    """Raise UserError, with a line for each invalid benchmark, if any."""
    faults = [fault for spec in specs if (fault := _fault(spec, folder))]
    if faults:
        raise UserError(faults)


def _fault(spec: str, folder: Path) -> str:
    if spec in suite_names():
        return ""
    path, at = folder / spec, "evals.benchmarks"
    if path.is_dir():
        named = [p for p in _files(path) if p.suffix in YAML and isinstance(_mapping(p), dict)]
        return "" if named else f"{at}: {spec}: no task file in this folder; put a .yaml with `task: NAME` there"
    if path.suffix in YAML:
        return _file_fault(at, spec, path)
    names = cached("lm-eval-tasks", {"lm-eval": version_of("lm-eval")}, lambda: list(lm_eval_manager().all_tasks))
    if spec in names:
        return ""
    have = ", ".join(suite_names())
    meant = did_you_mean(spec, suite_names()) or did_you_mean(spec, names)
    return f"{at}: no suite {spec!r}{meant}; embedded suites are {have}; or name an lm-eval task, or a .yaml file"


def _file_fault(at: str, spec: str, path: Path) -> str:
    if not path.is_file():
        return f"{at}: {spec}: no such file; paths are relative to the recipe, or to the current folder"
    task = _mapping(path)
    if isinstance(task, str):
        return f"{at}: {spec}: {task}"
    if not (task.get("task") or task.get("group")):
        return f"{at}: {spec}: has neither `task:` nor `group:`; an lm-eval task file names itself by `task: NAME`"
    return ""


def _mapping(path: Path) -> dict[str, Any] | str:
    """Return the fields of a task file, or what is wrong with it. Do not run the functions that it names."""
    try:
        fields = _included(path, ())
    except (yaml.YAMLError, OSError, ValueError) as e:
        return f"is not a task file ({str(e).splitlines()[0]}); an lm-eval task file starts with `task: NAME`"
    return dict(fields)


class _Task(yaml.SafeLoader):
    """A YAML loader that reads a task as lm-eval does, except that functions named by tags become None."""


_Task.add_multi_constructor("!", lambda loader, suffix, node: None)


def _included(path: Path, within: tuple[Path, ...]) -> dict[str, Any]:
    """Return the fields of a task file and of the files that it includes; its own fields take precedence.

    Args:
        path: the file.
        within: the chain of files that include it.

    Raises:
        ValueError: a file has no fields, or includes itself.
    """
    path = path.resolve()
    if path in within:
        raise ValueError(f"{path} includes itself")
    fields = yaml.load(path.read_bytes(), Loader=_Task)  # noqa: S506 - a safe loader
    if not isinstance(fields, dict):
        raise ValueError(f"{path} has no fields")
    named = fields.pop("include", [])
    merged: dict[str, Any] = {}
    for one in named if isinstance(named, list) else [named]:
        merged |= {k: v for k, v in _included(path.parent / one, (*within, path)).items() if k != "task_list"}
    return merged | fields


@lru_cache(maxsize=1)
def lm_eval_manager() -> Any:
    """Return lm-eval's task manager with all of its tasks, which takes seconds to build."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def resolve_task(spec: str, folder: Path) -> tuple[Any, list[str]]:
    """Return lm-eval's task manager, and the names of the tasks to run with it.

    Raises:
        UserError: the benchmark does not exist.
    """
    check_names([spec], folder)
    from lm_eval.tasks import TaskManager

    path = SUITES / spec if spec in suite_names() else folder / spec
    if path.is_dir():
        manager = TaskManager(include_path=str(path), include_defaults=False)
        return manager, [*manager.all_groups] or [*manager.all_subtasks]
    if path.suffix in YAML:
        return TaskManager(include_path=str(path.parent), include_defaults=False), [str(path.resolve())]
    return lm_eval_manager(), [spec]


def suite_key(spec: str, folder: Path = Path()) -> str:
    """Hash a benchmark: lm-eval's version with the files of task and data, or with the name of an lm-eval task."""
    path = SUITES / spec if spec in suite_names() else folder / spec
    digest = hashlib.sha256(str(version_of("lm-eval")).encode())
    if path.suffix not in YAML and not path.is_dir():
        digest.update(spec.encode())
        return digest.hexdigest()[:16]
    home = path if path.is_dir() else path.parent
    files = {p for p in _files(home) if p.suffix in READ}
    tasks = [_mapping(p) for p in files if p.suffix in YAML]
    files |= {p for task in tasks if isinstance(task, dict) for p in _data_files(task) if p.is_file()}
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _files(home: Path) -> list[Path]:
    return sorted(p for p in home.iterdir() if p.is_file())


def _data_files(task: dict[str, Any]) -> Iterator[Path]:
    """Yield the paths under `dataset_kwargs.data_files`, of any shape that datasets takes."""
    left = [(task.get("dataset_kwargs") or {}).get("data_files")]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield Path(value)
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value
