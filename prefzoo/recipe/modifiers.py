"""Read a variant's `modifiers`: a list of names, each with its knobs, in the order in which they act."""

from __future__ import annotations

from typing import Any

from prefzoo import losses
from prefzoo.errors import UserError
from prefzoo.losses import Loss, Modified, Sum
from prefzoo.recipe import messages
from prefzoo.recipe.yaml import Keys, Reporter

FIELD = "modifiers"
Entry = dict[str, dict[str, Any]]


def as_entries(listed: Any) -> Any:
    """Return a list of modifiers in which every entry is a mapping from name to knobs, as a copy.

    A value that is not a list, or not an entry of one, is returned as it is: `check_entries` reports it.
    """
    if not isinstance(listed, list):
        return listed
    return [_as_entry(entry) for entry in listed]


def _as_entry(entry: Any) -> Any:
    if isinstance(entry, str):
        return {entry: {}}
    if not isinstance(entry, dict):
        return entry
    return {name: dict(knobs or {}) if isinstance(knobs, dict | None) else knobs for name, knobs in entry.items()}


def short_name(spec: str) -> str:
    """Return a modifier's name in the paths of settings: `mine` for `my.py:mine`."""
    return spec.rpartition(":")[2]


def knobs_of(entries: list[Entry], name: str) -> dict[str, Any]:
    """Return the knobs of the modifier with this short name."""
    return next(knobs for entry in entries for spec, knobs in entry.items() if short_name(spec) == name)


def check_entries(source: Reporter, keys: Keys, entries: Any) -> list[Entry] | None:
    """Return the modifiers of a variant, or None after reporting faults.

    Args:
        source: Takes the faults.
        keys: Where the modifiers stand in it.
        entries: What `as_entries` returned for them; None without any.

    Returns:
        The entries, each a mapping from one name to its knobs; empty without any.
    """
    if entries is None:
        return []
    if not isinstance(entries, list):
        source.fault(keys, f"must be a list, in the order in which they act; like {_as_list(entries)}")
        return None
    wrong = False
    for i, entry in enumerate(entries):
        at = (*keys, str(i))
        if not isinstance(entry, dict) or len(entry) != 1:
            shown = messages.format_value(entry)
            source.fault(at, f"must be one modifier with its knobs (is {shown}); like `- dr: {{beta: 1}}`")
            wrong = True
            continue
        ((spec, knobs),) = entry.items()
        if not isinstance(knobs, dict):
            shown = messages.format_value(knobs)
            source.fault((*at, spec), f"must be a mapping of knobs (is {shown}); like `{{beta: 1}}`")
            wrong = True
    return None if wrong else entries


def _as_list(entries: Any) -> str:
    names = list(entries) if isinstance(entries, dict) else [entries] if isinstance(entries, str) else ["dr"]
    return f"[{', '.join(f'{{{name}: {{...}}}}' for name in names)}]"


def modified(source: Reporter, keys: Keys, loss: Loss | Sum, entries: list[Entry], folder: Any) -> Modified | None:
    """Return a loss with its modifiers, or None after reporting a fault.

    Args:
        source: Takes the faults.
        keys: Where the modifiers stand in it.
        loss: What is modified.
        entries: The modifiers.
        folder: Where the paths of files start.

    Returns:
        The modified loss.
    """
    try:
        return losses.modify(loss, [spec for entry in entries for spec in entry], folder)
    except UserError as e:
        source.fault(keys, e.lines[0], e.hint)
        return None
