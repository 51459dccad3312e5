"""Versions of packages, also of those that are on the path without being installed as distributions."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

UNKNOWN = "unknown"
ASSIGNED = re.compile(r"^__version__\s*=\s*[\"']([^\"']+)", re.MULTILINE)


def version_of(package: str) -> str | None:
    """Return the version of a package under its name on PyPI; None where it is not there.

    A module that is on the path without metadata has the `__version__` that its source assigns, else is `unknown`.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        spec = find_spec(package.replace("-", "_"))
    if spec is None:
        return None
    source = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    assigned = ASSIGNED.search(source.read_text(encoding="utf-8")) if source else None
    return assigned[1] if assigned else UNKNOWN
