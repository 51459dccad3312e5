"""Views of sequences that copy nothing: concatenations, selections, and items changed when they are read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Indices = Sequence[int] | npt.NDArray[np.int64]


class View(Sequence[T]):
    """A sequence that is computed item by item. Subclasses define `__len__` and `item`."""

    def item(self, index: int) -> T:
        """Return the item at an index, which is not negative."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        """Return an item, or the list of several."""
        if isinstance(index, slice):
            return [self.item(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.item(index % len(self))


class Joined(View[T]):
    """The concatenation of several sequences."""

    def __init__(self, parts: Sequence[Sequence[T]]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        """Return the number of items of all parts."""
        return self._ends[-1] if self._ends else 0

    def item(self, index: int) -> T:
        """Return the item at an index, which is not negative."""
        number = bisect_right(self._ends, index)
        return self._parts[number][index - (self._ends[number - 1] if number else 0)]

    def __iter__(self) -> Iterator[T]:
        """Yield all items, part by part."""
        for part in self._parts:
            yield from part


class Selected(View[T]):
    """Some items of a sequence, in any order."""

    def __init__(self, items: Sequence[T], indices: Indices) -> None:
        self._items, self._indices = items, indices

    def __len__(self) -> int:
        """Return the number of selected items."""
        return len(self._indices)

    def item(self, index: int) -> T:
        """Return the item at an index, which is not negative."""
        return self._items[int(self._indices[index])]


class Changed(View[T]):
    """The items of a sequence, each changed by a function when it is read."""

    def __init__(self, items: Sequence[T], change: Callable[[T], T]) -> None:
        self._items, self._change = items, change

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._items)

    def item(self, index: int) -> T:
        """Return the item at an index, which is not negative."""
        return self._change(self._items[index])

    def __iter__(self) -> Iterator[T]:
        """Yield all items, in order."""
        return map(self._change, self._items)


def changed(items: Sequence[T], change: Callable[[T], T]) -> Sequence[T]:
    """Return the items, changed by a function: a view if `items` is a view, else a list."""
    return Changed(items, change) if isinstance(items, View) else [change(item) for item in items]


def select(items: Sequence[T], indices: Indices) -> Sequence[T]:
    """Return the items at some indices: a view if `items` is a view, else a list."""
    return Selected(items, indices) if isinstance(items, View) else [items[i] for i in indices]


def joined(parts: Sequence[Sequence[T]]) -> Sequence[T]:
    """Return the concatenation of sequences: a view if one of them is a view, else a list."""
    views: list[Any] = [part for part in parts if isinstance(part, View)]
    return Joined(parts) if views else [item for part in parts for item in part]
