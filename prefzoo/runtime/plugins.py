"""Import Python files that a recipe names, load entry points of installed packages, and locate their errors."""

from __future__ import annotations

import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from prefzoo.runtime.redaction import redact

LONGEST = 400  # characters of an error's message that are shown
RAISED = (Exception, SystemExit)  # errors of a user's code; KeyboardInterrupt and signals are not among them
# Names that plug-ins often use without importing them.
IMPORTS = {
    **dict.fromkeys(("torch", "math"), "import {}"),
    **dict.fromkeys(("logsigmoid", "relu", "softplus"), "from torch.nn.functional import {}"),
    "F": "import torch.nn.functional as F",
    "Tensor": "from torch import Tensor",
    **dict.fromkeys(
        ("loss", "Positive", "NonNegative", "Finite", "Share", "FlipRate"), "from prefzoo.losses import {}"
    ),
    **dict.fromkeys(
        ("LogProbs", "TokenLogProbs", "VocabLogProbs", "Answers", "Scores", "TokenKL", "Mismatched"),
        "from prefzoo.types import {}",
    ),
}
PACKAGE = str(Path(__file__).parents[1])
INSTALLED = ("site-packages", "dist-packages")


class WrongReturn(ValueError):
    """A user's function returned an invalid value; the error is located at the function's definition.

    Args:
        fn: The function.
        message: The value that it returned, and the values that it may return.
    """

    def __init__(self, fn: Callable[..., Any], message: str) -> None:
        super().__init__(message)
        self.fn = fn


class _UncachedLoader(SourceFileLoader):
    """Compile the source at every import.

    Bytecode is matched to its source by size and a date in whole seconds, so an edit within the same second
    would be missed. No bytecode is written either, so that a run adds nothing to a user's folders.
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
    """Load the entry points of installed packages in a group; report and skip those that fail.

    Args:
        group: Name of the group, such as `prefzoo.losses`.
        register: Function that takes an entry point and its object, and returns what is wrong with it, or None.
    """
    for point in entry_points(group=group):
        try:
            fault = register(point, point.load())
        except RAISED as e:  # one broken package must not break the whole tool
            fault = describe_error(e, ours=False)
        if fault:
            print(f"prefzoo: entry point {point.name} = {point.value} fails: {fault}", file=sys.stderr)


def describe_error(error: BaseException, *, ours: bool = True) -> str:
    """Describe an error of a user's code and its place in one line, like `my_loss.py:12: ValueError: too short`.

    The place is the innermost line outside prefzoo, the standard library and installed packages. If there is none, it
    is the innermost line of prefzoo or of an installed package other than torch.

    Args:
        error: The exception.
        ours: Whether the place may be a line of prefzoo.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    own = [f for f in frames if not _is_library(f.filename)]
    others = [f for f in frames if not _is_standard(f.filename) and f"{os.sep}torch{os.sep}" not in f.filename]
    if not ours or isinstance(error, ImportError):
        others = [f for f in others if not _is_ours(f.filename)]
    at = next((kind[-1] for kind in (own, others) if kind), None)
    place = f"{_shown(at.filename)}:{at.lineno}: " if at else ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{_shown(error.filename)}:{error.lineno}: "
    if isinstance(error, WrongReturn):
        return redact(f"{_definition(error.fn)}{error}")
    message = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split()).rstrip(".")
    shown = message if len(message) <= LONGEST else message[:LONGEST] + "..."
    return redact(f"{place}{type(error).__name__}{f': {shown}' if shown else ''}{import_hint(error)}")


def _definition(fn: Callable[..., Any]) -> str:
    """Return where a function is defined, like `my_loss.py:12: `; empty if it has no Python source."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    return f"{_shown(code.co_filename)}:{code.co_firstlineno}: " if code else ""


def import_hint(error: BaseException) -> str:
    """Return a hint to add the import of a name that a user's code forgot; empty for any other error."""
    if not isinstance(error, NameError) or error.name not in IMPORTS:
        return ""
    return f"; add `{IMPORTS[error.name].format(error.name)}` at the top of the file"


def _is_library(file: str) -> bool:
    return _is_standard(file) or _is_ours(file) or any(name in Path(file).parts for name in INSTALLED)


def _is_standard(file: str) -> bool:
    inside = file.startswith(sysconfig.get_paths()["stdlib"] + os.sep)
    return inside and not any(name in Path(file).parts for name in INSTALLED)


def _is_ours(file: str) -> bool:
    return file.startswith(PACKAGE + os.sep) or str(Path(file).resolve()).startswith(PACKAGE + os.sep)


def _shown(file: str) -> str:
    """Return a path relative to the current folder, if it lies inside."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
