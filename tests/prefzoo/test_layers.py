"""The house by layers: a module imports from its own layer and from lower ones, never from a higher one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from parsed import parsed

ROOT = Path(__file__).parents[2]
MOST_LINES = 300  # of a module
LAYERS = (  # lowest first
    "version", "errors", "types", "runtime", "losses", "catalogue", "data", "recipe", "engine", "training",
    "evals.judges", "evals.stats", "evals.suites", "evals.generation", "evals.metrics", "evals.boards", "evals.report",
    "experiment", "api", "", "cli", "__main__",
)  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the package, by its name without `prefzoo.`; the package itself is the empty name."""
    models = {}
    for top in ("prefzoo", "evals"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = ("evals", *parts[1:]) if top == "evals" else parts[1:]
            models[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: path for name, path in models.items() if top_level(name)}


def top_level(name: str) -> bool:
    """Whether the name has a layer; `evals` itself holds nothing."""
    return name != "evals"


def layer(name: str) -> int:
    """The number of a module's layer.

    Raises:
        KeyError: it belongs to none.
    """
    for number, one in enumerate(LAYERS):
        if name == one or (one and name.startswith(f"{one}.")):
            return number
    raise KeyError(name)


def imports(path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and name of each module of the package that a file imports, at its top or inside a function."""
    for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            whole = [f"{node.module}.{a.name}" for a in node.names]
            names = [n if n.removeprefix("prefzoo.") in known else str(node.module) for n in whole]
        for name in names:
            assert name.split(".")[0] != "evals", f"{path}:{node.lineno}: import prefzoo.evals, not evals"
            if name.split(".")[0] == "prefzoo":
                yield node.lineno, name.removeprefix("prefzoo").removeprefix(".")


def test_no_module_imports_from_a_higher_layer() -> None:
    known = modules()
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name or 'prefzoo'} imports {used or 'prefzoo'}"
        for name, path in known.items()
        for line, used in imports(path, known)
        if layer(used) > layer(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_two_modules_import_each_other() -> None:
    known = modules()
    graph = {name: {used for _, used in imports(path, known)} - {name} for name, path in known.items()}
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for used in graph.get(name, ()):
                walk(used, (*way, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_a_module_without_a_layer_is_noticed() -> None:
    with pytest.raises(KeyError):
        layer("utils")


def test_no_module_is_too_long_to_read_at_once() -> None:
    lines = {path.relative_to(ROOT): path.read_text(encoding="utf-8").count("\n") for path in modules().values()}
    assert not {path: count for path, count in lines.items() if count > MOST_LINES}
