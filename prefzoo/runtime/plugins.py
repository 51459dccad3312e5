"""Python files that a recipe names, run as modules."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any


class _Uncached(SourceFileLoader):
    """Reads the source each time: bytecode is told from an older one's by date and size alone, to the second.

    Nor is any written: a run leaves nothing beside a user's files.
    """

    def path_stats(self, path: Any) -> Any:
        raise OSError("no bytecode")


def import_file(path: Path, name: str) -> ModuleType:
    """The module `name` that a file makes; what it raises is the caller's to word."""
    found = spec_from_file_location(name, path, loader=_Uncached(name, str(path)))
    assert found is not None and found.loader is not None  # given
    module = module_from_spec(found)
    sys.modules[name] = module  # as dataclasses expect it
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
