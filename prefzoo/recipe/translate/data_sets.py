"""Write the data sets of a configuration as a recipe lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from prefzoo.errors import UserError
from prefzoo.recipe.sources import plain_name
from prefzoo.recipe.translate.translation import Translation

Source = dict[str, Any]


def mappings(key: str, value: Any, *needed: str) -> list[Source]:
    """Return copies of the data sets that a key lists.

    Args:
        key: the peer's key.
        value: its value.
        needed: keys that each of them must have.

    Returns:
        The mappings; none if the value is empty.

    Raises:
        UserError: the value is not a list of such mappings.
    """
    listed = value or []
    if isinstance(listed, list) and all(isinstance(one, dict) and one.keys() >= set(needed) for one in listed):
        return [dict(one) for one in listed]
    each = f", each with {' and '.join(needed)}" if needed else ""
    raise UserError(f"{key}: must be a list of mappings{each}; correct it in the configuration")


def write_sources(t: Translation, field_name: str, sources: Sequence[Source], key: str) -> None:
    """Write data sets: one of a path alone as a text, several as a list in which each has a name of its own.

    Args:
        t: the translation.
        field_name: `data.train` or `data.eval`.
        sources: mappings of a path and of options, at least one; those that are given twice are read once.
        key: the peer's key that lists them.
    """
    different = [one for i, one in enumerate(sources) if one not in sources[:i]]
    twice = "" if len(different) == len(sources) else "names a data set twice; its rows are read once here"
    often = {path for path, count in Counter(one["path"] for one in different).items() if count > 1}
    for i, one in enumerate(different):
        if one["path"] in often:
            apart = one.get("split") or one.get("revision") or str(i)
            one["name"] = plain_name(f"{plain_name(apart)[:40]}-{one['path'].rpartition('/')[2]}")
    first = different[0]
    if len(different) > 1 or not first.keys() <= {"path", "split"}:
        t.set(field_name, different, key, twice)
    else:
        t.set(field_name, ":".join(filter(None, (first["path"], first.get("split")))), key, twice)
