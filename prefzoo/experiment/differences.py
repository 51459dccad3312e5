"""Describe the differences between two sets of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ABSENT = object()
LONGEST = 48  # characters of a value


def changes(before: Any, now: Any) -> list[str]:
    """Return the changes between two nested mappings, as `a.b old -> new`, in the order of the new one.

    Args:
        before: the earlier settings.
        now: the present ones.
    """
    old, new = dict(_flat(before or {})), dict(_flat(now or {}))
    names = [*new, *(name for name in old if name not in new)]
    return [
        f"{name} {_shown(old.get(name, ABSENT))} -> {_shown(new.get(name, ABSENT))}"
        for name in names
        if not _same(old.get(name, ABSENT), new.get(name, ABSENT))
    ]


def _flat(value: Any, at: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not at):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{at}.{key}" if at else str(key))]
    return [(at, value)]


def _same(old: Any, new: Any) -> bool:
    """Return whether nothing is lost or gained: an absent setting and one without a value are the same."""
    empty = (None, ABSENT)
    return (old in empty and new in empty) if old in empty or new in empty else bool(old == new)


def _shown(value: Any) -> str:
    text = "unset" if value is None or value is ABSENT else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
