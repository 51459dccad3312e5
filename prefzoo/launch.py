"""One process, or several under `accelerate launch`: who speaks and writes, what all agree on, how they share work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # one process may measure for hours while the others wait for it


def processes() -> Any:
    """This process's place among all; joins them at the first call."""
    return PartialState(timeout=PATIENCE)


def agreed(value: T) -> T:
    """The main process's value, in every process."""
    if processes().num_processes == 1:
        return value
    found = [value]
    broadcast_object_list(found)
    return found[0]


def share(items: Sequence[T]) -> list[T]:
    """What of the items falls to this process: dealt in turn."""
    state = processes()
    return list(items[state.process_index :: state.num_processes])


def collected(own: Sequence[T]) -> list[T]:
    """All processes' shares, in the order in which `share` dealt them."""
    state = processes()
    if state.num_processes == 1:
        return list(own)
    parts: list[tuple[int, list[T]]] = gather_object([(state.process_index, list(own))])
    rows = [items for _, items in sorted(parts, key=lambda part: part[0])]
    return [row[at] for at in range(max(map(len, rows))) for row in rows if at < len(row)]
