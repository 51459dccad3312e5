"""Decide from the size and date of files whether a run has nothing to do, without heavy imports.

A run that ends with nothing left to try again writes a mark into its folder: the recipe, every file that it read, every
file that it left, and the versions and hardware it ran on. The same command finds the mark, compares, and shows the
board again. Any difference leads to an ordinary run.
"""

from __future__ import annotations

import json
import os
import site
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.experiment.request import Request
from prefzoo.recipe.data_paths import paths_of
from prefzoo.recipe.yaml import RawRecipe
from prefzoo.runtime import run_folders
from prefzoo.runtime.paths import PACKAGE_SCHEME, resolve_package

MARK = ".finished.json"
WIDTHS = (80, 100, 120, 160, 200)  # of the terminals for which the board is stored
BESIDE = (".py", ".yaml", ".yml")  # a file of these kinds may read others in its folder
Stamps = dict[str, list[int]]


@dataclass(frozen=True)
class Finished:
    """A run that has nothing to do.

    Attributes:
        folder: the run's.
        lines: what the run printed about its folder and its recipe.
        boards: width of a terminal -> the board for it.
    """

    folder: Path
    lines: list[str]
    boards: dict[str, str]

    def board(self, width: int) -> str:
        """Return the board for a terminal."""
        return self.boards[str(max((w for w in WIDTHS if w <= width), default=WIDTHS[0]))]


def read_finished_run(request: Request) -> Finished | None:
    """Return the run that a request asks for, if the same request finished it and nothing has changed since."""
    try:
        name = _name(request)
        folder = request.folder(name)
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        same = mark["inputs"] == known_inputs(request, mark["inputs"]["files"]) and mark["outputs"] == outputs(folder)
        return Finished(folder, mark["lines"], mark["boards"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
        return None  # an ordinary run reports what is wrong


def write_mark(finished: Finished, inputs: Mapping[str, Any]) -> None:
    """Record that a run has nothing left to do.

    Args:
        finished: what the next run prints.
        inputs: as `inputs_of` gave them before the run read any of them.
    """
    values = {
        "inputs": inputs, "outputs": outputs(finished.folder), "lines": finished.lines,
        "boards": finished.boards,
    }  # fmt: skip
    run_folders.write_json(finished.folder / MARK, values)


def shown_at_widths(show: Callable[[Console], None]) -> dict[str, str]:
    """Return what `show` prints to a terminal, by the terminal's width."""
    texts: dict[str, str] = {}
    for width in WIDTHS:
        console = Console(width=width, file=StringIO(), emoji=False)
        with console.capture() as capture:
            show(console)
        texts[str(width)] = capture.get()
    return texts


def inputs_of(request: Request, recipe: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """Return all that a run depends on: texts, versions, and size and date of each file that the recipe names.

    Args:
        request: which run.
        recipe: its recipe as plain values.
        folder: where relative paths start.

    Returns:
        The inputs; None if something comes from the hub and no local copy tells its version.
    """
    paths = [path for text in _texts(recipe) for path in files_of(text, folder)]
    named = [recipe["model"], *(v.get("reference") for v in recipe["variants"].values() if isinstance(v, Mapping))]
    named = [text for one in named for text in (one if isinstance(one, list) else [one])]  # a grid of references
    for text, kind in [
        *((text, "models") for text in named),
        *((path, "datasets") for use in ("train", "eval") for path in paths_of(recipe["data"][use])),
    ]:
        if text and not list(files_of(text, folder)):
            version = hub_version(text, kind)
            if version is None:
                return None
            paths.append(version)
    return known_inputs(request, [str(path) for path in paths])


def outputs(folder: Path) -> Stamps:
    """Return size and date of every file of a run's folder, except hidden ones and a scheduler's."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    parts = {path: path.relative_to(folder).parts for path in files}
    return stamps([p for p in files if parts[p][0] != "slurm" and not any(x.startswith(".") for x in parts[p])])


def known_inputs(request: Request, files: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Return all that a run with known files depends on.

    Args:
        request: which run.
        files: paths of the files that its recipe names.

    Returns:
        The inputs.
    """
    recipe = Path(request.recipe)
    return {
        "recipe": recipe.read_text(encoding="utf-8"), "folder": str(recipe.resolve().parent),
        "overrides": list(request.overrides), "files": stamps([Path(file) for file in files]), **surroundings(),
    }  # fmt: skip


def surroundings() -> dict[str, Any]:
    """Return the code, the versions of packages and the hardware that every result depends on."""
    package = Path(__file__).parents[1]
    own = [p for root in (package, package / "evals") for p in root.resolve().rglob("*") if p.suffix in (".py", ".j2")]
    # names and versions; not of sys.path: setuptools and Ray, once imported, add folders with copies of packages
    roots = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    roots += [root for root in os.environ.get("PYTHONPATH", "").split(os.pathsep) if root]
    packages = {path.name for root in roots for path in Path(root).glob("*.dist-info")}
    return {
        "code": [len(own), max(p.stat().st_mtime_ns for p in own)], "python": sys.version,
        "packages": sorted(packages),
        "hardware": [
            run_folders.cpu_name(), os.cpu_count(), Path("/dev/nvidia0").exists(),
            os.environ.get("CUDA_VISIBLE_DEVICES"),
        ],
    }  # fmt: skip


def _name(request: Request) -> str:
    source = RawRecipe(Path(request.recipe))
    for text in request.overrides:
        source.override(text)
    return str(source.data["name"])


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a recipe, any of which may name a file."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def hub_version(name: str, kind: str) -> Path | None:
    """Return the local file that tells the version of a hub name; None if there is none.

    Args:
        name: of a model or data set of the hub.
        kind: `models` or `datasets`.
    """
    version = _hub_cache() / f"{kind}--{name.replace('/', '--')}" / "refs" / "main"
    return version if version.is_file() else None


def files_of(text: str, folder: Path) -> Iterator[Path]:
    """Yield the files that a text of a recipe names, if it names any: `data.jsonl`, `model/`, `mine.py:loss`.

    Args:
        text: any text of a recipe.
        folder: where relative paths start.

    Returns:
        An iterator over the files.
    """
    if text.startswith(PACKAGE_SCHEME):
        yield resolve_package(text)
        return
    for part in dict.fromkeys((text, *(t.strip() for t in text.replace("+", "*").split("*")))):
        for name in dict.fromkeys((part, part.rpartition(":")[0])):
            try:
                path = folder / Path(name).expanduser()
                exists = bool(name) and path.exists()
            except (OSError, ValueError, RuntimeError):  # too long for a name, or another user's home
                continue
            if exists and path.is_dir():
                yield from _files_in(path)
            elif exists:
                beside = path.parent.glob("*") if path.suffix in BESIDE else ()
                yield from (path, *(p for p in sorted(beside) if p.suffix in BESIDE))


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, and if it is an adapter, those of the model that it sits on."""
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())
    with suppress(OSError, ValueError, LookupError, TypeError):
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = Path(config["base_model_name_or_path"])
        version = hub_version(str(base), "models")
        if base.is_dir() and base != folder:
            yield from _files_in(base)
        elif version is not None:
            yield version


def stamps(paths: Sequence[Path]) -> Stamps:
    """Return size and date of files; missing ones are left out."""
    stats = {str(path): path.stat() if path.is_file() else None for path in paths}
    return {path: [stat.st_size, stat.st_mtime_ns] if stat else [] for path, stat in sorted(stats.items())}


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()
