"""Import Python files that a recipe names, and load what installed packages offer by entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any


class _UncachedLoader(SourceFileLoader):
    """Compile the source at every import.

    Bytecode is matched to its source by size and a date in whole seconds, so an edit within the second would go
    unnoticed. No bytecode is written either: a run leaves nothing beside a user's files.
    """

    def path_stats(self, path: Any) -> Any:
        raise OSError("no bytecode")


def import_file(path: Path, name: str) -> ModuleType:
    """Import a file as the module `name`; errors that its code raises reach the caller."""
    spec = spec_from_file_location(name, path, loader=_UncachedLoader(name, str(path)))
    assert spec is not None and spec.loader is not None  # a loader was given
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_entry_points(group: str, register: Callable[[EntryPoint, Any], str | None]) -> None:
    """Load what installed packages offer in a group of entry points. What is broken is reported and left out.

    Args:
        group: such as `prefzoo.losses`.
        register: takes an entry point and the object it names, and returns what is wrong with it, if anything.
    """
    for point in entry_points(group=group):
        try:
            fault = register(point, point.load())
        except Exception as e:  # one broken package must not break the whole tool
            fault = f"{type(e).__name__}: {e}"
        if fault:
            print(f"prefzoo: entry point {point.name} = {point.value} fails: {fault}", file=sys.stderr)
