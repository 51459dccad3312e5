"""Store a list in a temporary file, for data sets that may be larger than memory."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from array import array
from collections.abc import Iterator
from typing import Any, TypeVar

from prefzoo.data.views import View
from prefzoo.runtime.paths import cache_dir

T = TypeVar("T")


class Spool(View[T]):
    """A list on disk that can be appended to and read in any order. It takes eight bytes of memory per item."""

    def __init__(self) -> None:
        self._file: Any = tempfile.TemporaryFile(dir=cache_dir("spool"))  # noqa: SIM115 - closed with the list
        weakref.finalize(self, self._file.close)
        self._starts = array("q")
        self._end = 0

    def append(self, item: T) -> None:
        """Add an item at the end."""
        data = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        self._file.seek(self._end)
        self._file.write(data)
        self._starts.append(self._end)
        self._end += len(data)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._starts)

    def item(self, index: int) -> T:
        """Return the item at an index, which is not negative."""
        self._file.seek(self._starts[index])
        item: T = pickle.load(self._file)  # noqa: S301 - written by this process, in a file without a name
        return item

    def __iter__(self) -> Iterator[T]:
        """Yield all items in order; reading other items in between is safe."""
        for index in range(len(self)):
            yield self.item(index)
