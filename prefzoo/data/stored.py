"""Store token ids in memory-mapped Arrow files, for data sets that are larger than memory."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prefzoo.data.tokens import TokenAnswer, TokenExample, TokenPair
from prefzoo.data.views import View
from prefzoo.runtime import atomic_files

OPEN = 64  # most files that are mapped at a time
Ids = npt.NDArray[np.int32]


@dataclass
class Chunk:
    """Consecutive rows of a data set as token ids, with counts of the rows that were dropped.

    Attributes:
        kept: the examples that were not dropped. Their `row` counts from the first row of the chunk.
        counts: number of rows that were dropped or changed, by reason.
        shortest, longest: tokens of the shortest and longest example, dropped ones included; 0 if there is none.
        faults: (position in the chunk, what is wrong) for each row that the chat template refuses.
        roles: number of tokens by role.
    """

    kept: list[TokenExample] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    shortest: int = 0
    longest: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    roles: Counter[str] = field(default_factory=Counter)

    def measure(self, length: int) -> None:
        """Update `shortest` and `longest` by the number of tokens of an example; dropped ones count, too."""
        self.shortest = min(self.shortest or length, length)
        self.longest = max(self.longest, length)


def write_chunk(folder: Path, key: str, chunk: Chunk) -> Path:
    """Write a chunk to an Arrow file atomically: readers never see a partial file.

    Args:
        folder: the folder to write to.
        key: hash of the rows and settings; the file's name is the key and a checksum.
        chunk: the chunk to write.

    Returns:
        The path of the file.
    """
    import pyarrow as pa

    sides = [[e.answers[i] if i < len(e.answers) else None for e in chunk.kept] for i in (0, 1)]
    flags = [[_flags(e, i) for e in chunk.kept] for i in (0, 1)]
    numbers = {name: [_two(getattr(e, name, None)) for e in chunk.kept] for name in NUMBERS}
    columns = {
        "prompt": pa.array([e.prompt for e in chunk.kept], pa.list_(pa.int32())),
        "first": pa.array(sides[0], pa.list_(pa.int32())),
        "second": pa.array(sides[1], pa.list_(pa.int32())),
        "first_scored": pa.array(flags[0], pa.list_(pa.uint8())),
        "second_scored": pa.array(flags[1], pa.list_(pa.uint8())),
        "row": pa.array([e.row for e in chunk.kept], pa.int64()),
        "label": pa.array([e.label if isinstance(e, TokenAnswer) else None for e in chunk.kept], pa.bool_()),
        **{f"{n}_{i}": pa.array([two[i] for two in numbers[n]], pa.float64()) for n in NUMBERS for i in (0, 1)},
    }
    about = {
        "counts": chunk.counts, "shortest": chunk.shortest, "longest": chunk.longest, "faults": chunk.faults,
        "roles": chunk.roles,
    }  # fmt: skip
    table = pa.table(columns).replace_schema_metadata({"about": json.dumps(about)}).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    path = folder / f"{key}-{_checksum(data)}.arrow"
    with atomic_files.write_atomically(path) as partial:
        partial.write_bytes(data)
    return path


def find_chunk(folder: Path, key: str) -> Path | None:
    """Return the file of a chunk; None if there is none. A file with a wrong checksum is reported and deleted."""
    for path in folder.glob(f"{key}-*.arrow"):
        if path.stem.rpartition("-")[2] == _checksum(path.read_bytes()):
            return path
        print(f"{path}: damaged (its checksum is wrong); tokenised again", flush=True)
        path.unlink(missing_ok=True)
    return None


def read_about(path: Path) -> Chunk:
    """Read a chunk without its examples: its counts, lengths, faults and roles."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        about = json.loads(pa.ipc.open_file(source).schema.metadata[b"about"])
    return Chunk(
        [], Counter(about["counts"]), about["shortest"], about["longest"], [(i, line) for i, line in about["faults"]],
        Counter(about["roles"]),
    )  # fmt: skip


class Stored(View[TokenExample]):
    """The examples of several chunk files, in order. At most `OPEN` files stay mapped.

    Args:
        files: the path of each chunk, with the index of its first row in the data set.
    """

    def __init__(self, files: Sequence[tuple[Path, int]]) -> None:
        self._files = files
        self._open: OrderedDict[int, _Mapped] = OrderedDict()
        self._ends = np.cumsum([len(_Mapped(path, first)) for path, first in files])

    def __len__(self) -> int:
        """Return the number of examples."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def item(self, index: int) -> TokenExample:
        """Return the example at an index, which is not negative."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        if number not in self._open:
            self._open[number] = _Mapped(*self._files[number])
            if len(self._open) > OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number].example(index - (int(self._ends[number - 1]) if number else 0))

    def __iter__(self) -> Iterator[TokenExample]:
        """Yield all examples in order, with one file mapped at a time."""
        for path, first in self._files:
            mapped = _Mapped(path, first)
            for index in range(len(mapped)):
                yield mapped.example(index)


class _Mapped:
    """The examples of one chunk file, memory-mapped."""

    def __init__(self, path: Path, first: int) -> None:
        import pyarrow as pa

        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
        self._size, self._first = table.num_rows, first
        self._lists = {name: _Lists(table.column(name)) for name in LISTS}
        self._row = table.column("row").to_numpy()
        self._label = table.column("label")
        self._numbers = {n: [table.column(f"{n}_{i}").to_numpy() for i in (0, 1)] for n in NUMBERS}

    def __len__(self) -> int:
        return int(self._size)

    def example(self, index: int) -> TokenExample:
        prompt, first, second, *flags = (self._lists[name].item(index) for name in LISTS)
        assert prompt is not None  # every example has a prompt and an answer
        assert first is not None
        row = self._first + int(self._row[index])
        scored = tuple([bool(flag) for flag in own] for own in flags if own is not None) or None
        if second is None:
            return TokenAnswer(prompt, first, bool(self._label[index].as_py()), row, scored)
        scores, quantiles = (self._both(name, index) for name in NUMBERS)
        return TokenPair(prompt, first, second, row, scores, scored, quantiles)

    def _both(self, name: str, index: int) -> tuple[float, float] | None:
        chosen, rejected = (float(column[index]) for column in self._numbers[name])
        return None if np.isnan(chosen) else (chosen, rejected)


LISTS = ("prompt", "first", "second", "first_scored", "second_scored")
NUMBERS = ("scores", "quantiles")  # each has a value for chosen and one for rejected


class _Lists:
    """An Arrow column of lists of integers; each list is copied when it is read."""

    def __init__(self, column: Any) -> None:
        import pyarrow as pa

        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        self._values = array.values.to_numpy(zero_copy_only=True) if len(array) else np.empty(0)
        self._offsets = array.offsets.to_numpy() if len(array) else np.zeros(1)
        self._null = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
        assert isinstance(array, pa.ListArray)

    def item(self, index: int) -> list[int] | None:
        if self._null is not None and self._null[index]:
            return None
        listed: list[int] = self._values[self._offsets[index] : self._offsets[index + 1]].tolist()
        return listed


def _two(numbers: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return numbers or (None, None)


def _flags(example: TokenExample, side: int) -> list[int] | None:
    if example.scored is None or side >= len(example.scored):
        return None
    return [int(flag) for flag in example.scored[side]]


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
