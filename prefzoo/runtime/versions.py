"""Return versions of packages, including packages on the path that are not installed as distributions."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

UNKNOWN = "unknown"
ASSIGNED = re.compile(r"^__version__\s*=\s*[\"']([^\"']+)", re.MULTILINE)


def version_of(package: str) -> str | None:
    """Return the version of a package by its name on PyPI, or None if it is absent.

    For a module on the path without metadata, return the `__version__` that its source assigns, else `unknown`.
    """
    try:
        return _distribution_version(package)
    except PackageNotFoundError:
        spec = find_spec(package.replace("-", "_"))
    if spec is None:
        return None
    source = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    assigned = ASSIGNED.search(source.read_text(encoding="utf-8")) if source else None
    return assigned[1] if assigned else UNKNOWN


@cache
def _distribution_version(package: str) -> str:
    """Read the version of an installed distribution once; each reading parses its metadata for milliseconds.

    Raises:
        PackageNotFoundError: There is none. This is not cached, so a package installed later is seen.
    """
    return version(package)
