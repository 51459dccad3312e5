"""The paths and hub ids that `data.train` and `data.eval` name, as a recipe has them or as plain values."""

from __future__ import annotations

from typing import Any


def paths_of(value: Any) -> list[str]:
    """Return the paths and hub ids of a data set, or of a list of them; none for None."""
    if isinstance(value, list):
        return [path for one in value for path in paths_of(one)]
    if isinstance(value, dict):
        return [str(value["path"])]
    return [] if value is None else [str(getattr(value, "path", value))]


def shown(value: Any) -> str:
    """Return what `data.train` or `data.eval` names, for messages and pages; empty for nothing."""
    return ", ".join(paths_of(value))
