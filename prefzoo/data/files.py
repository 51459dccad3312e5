"""Read the rows of a local file: JSON lines, a JSON list, CSV or parquet."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from prefzoo.data.faults import Faults
from prefzoo.data.rows import Row
from prefzoo.errors import UserError

UTF_8 = "utf-8-sig"  # with or without a byte-order mark
AT_ONCE = 1000  # rows of a parquet file that are in memory at a time
LARGEST_FIELD = 2**31 - 1  # characters of a CSV file's cell; Python's own limit is 131,072
MORE = "\0"  # the key of a CSV row's fields beyond those that the header names


class Position:
    """The progress of reading a data set: by rows where their number is known, else by bytes of the file."""

    def __init__(self) -> None:
        self._rows, self._size = 0, 0
        self._file: Any = None

    def of_rows(self, total: int) -> None:
        """Set the total number of rows; 0 if it is unknown."""
        self._rows = total

    def of_file(self, file: Any, size: int) -> None:
        """Follow the read position of an open file that has `size` bytes."""
        self._file, self._size = file, size

    @property
    def share(self) -> float | None:
        """The share of the file that was read, from 0 to 1; None if no file is followed."""
        if self._file is None or not self._size:
            return None
        return 1.0 if self._file.closed else min(self._file.tell() / self._size, 1.0)

    def total(self, read: int) -> int:
        """Return the total number of rows, estimated from the `read` rows if it is not known; 0 without an estimate."""
        share = self.share
        return self._rows or (max(round(read / share), read) if share else 0)


def is_file_of_rows(name: str) -> bool:
    """Return whether a name has the suffix of a file that `read_file` can read."""
    return name.lower().endswith(tuple(READERS))


def read_file(path: Path, faults: Faults, position: Position) -> Iterator[Row]:
    """Read a file row by row. Only a JSON list is held in memory as a whole.

    Args:
        path: the file.
        faults: collects the lines or items that are not rows.
        position: is updated as rows are read.

    Returns:
        An iterator over the rows.

    Raises:
        UserError: the file is absent, of an unknown kind, or broken.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; paths in a recipe are relative to the recipe")
    reader = next((read for suffix, read in READERS.items() if path.name.lower().endswith(suffix)), None)
    if reader is None:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; use one of {', '.join(READERS)}")
    try:
        yield from reader(path, faults, position)
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 at byte {e.start}; save it as UTF-8") from e
    except (OSError, EOFError) as e:  # gzip and parquet raise these for bytes in another format
        raise UserError(f"{path}: cannot be read: {str(e).splitlines()[0]}") from e


def _json(path: Path, faults: Faults, position: Position) -> Iterator[Row]:
    text = path.read_text(encoding=UTF_8)
    try:
        rows = JSON.decode(text)
    except RepeatedKeyError as e:
        raise UserError(f"{path}: {e}") from None
    except json.JSONDecodeError as e:
        if _is_object(text.lstrip().partition("\n")[0]):  # JSON lines under another name
            yield from _json_lines(path, text.split("\n"), faults)
            return
        raise UserError(f"{path}:{e.lineno}: not JSON: {e.msg}") from e
    except RecursionError:
        raise UserError(f"{path}: lists or objects are nested too deeply; it is not a list of pairs") from None
    if not isinstance(rows, list):
        kind = "an object" if isinstance(rows, dict) else type(rows).__name__
        raise UserError(f"{path}: holds {kind}; expected a list of objects, one per pair{_field(rows)}")
    position.of_rows(len(rows))
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            yield row
        else:
            faults.add(f"{path}: row {number}", f"{type(row).__name__} where an object {{…}} was expected", row)


def _field(value: Any) -> str:
    """Return the cure for a JSON object that holds a list of rows in one of its fields; empty if it holds none."""
    fields = [name for name, rows in value.items() if _are_rows(rows)] if isinstance(value, dict) else []
    return f"; write the list in its field {fields[0]!r} to a file of its own" if fields else ""


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _csv(path: Path, faults: Faults, position: Position) -> Iterator[Row]:
    csv.field_size_limit(LARGEST_FIELD)
    with path.open(encoding=UTF_8, newline="") as f:
        position.of_file(f.buffer, path.stat().st_size)
        separator = _separator(f.readline())
        f.seek(0)
        try:
            reader = csv.DictReader(f, restkey=MORE, delimiter=separator)
            _check_header(path, reader.fieldnames or [])
            for number, row in enumerate(reader, 1):
                row.pop("", None)  # pandas writes row numbers as a column without a name
                if MORE in row:
                    faults.add(f"{path}: row {number}", "more fields than the header; quote its commas", row)
                else:
                    yield row
        except csv.Error as e:
            raise UserError(f"{path}: not CSV: {e}") from e


def _check_header(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise UserError(f"{path}: has several columns {twice[0]!r}; rename or remove all but one")


def _separator(header: str) -> str:
    """Return the separator of a CSV header: a comma, or the semicolon or tab that spreadsheets may write."""
    return "," if "," in header else max(";\t", key=header.count) if set(header) & set(";\t") else ","


def _parquet(path: Path, faults: Faults, position: Position) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            position.of_rows(file.metadata.num_rows)
            for part in file.iter_batches(AT_ONCE):
                yield from map(without_absent, part.to_pylist())  # unlike pandas, keeps lists as lists
    except pyarrow.ArrowInvalid as e:
        raise UserError(f"{path}: not parquet: {str(e).splitlines()[0]}") from e


def without_absent(row: Mapping[str, Any]) -> Row:
    """Return a row without the None fields that Arrow adds to nested objects. Columns that are None remain.

    Args:
        row: a row that was read by Arrow.
    """
    return {name: _present(value) for name, value in row.items()}


def _present(value: Any) -> Any:
    if isinstance(value, list):
        return [_present(one) for one in value]
    if isinstance(value, dict):
        return {name: _present(one) for name, one in value.items() if one is not None}
    return value


def _jsonl(path: Path, faults: Faults, position: Position) -> Iterator[Row]:
    with path.open("rb") as file:
        position.of_file(file, path.stat().st_size)
        plain: Any = gzip.GzipFile(fileobj=file) if path.suffix.lower() == ".gz" else file
        with TextIOWrapper(plain, encoding=UTF_8) as lines:
            yield from _json_lines(path, lines, faults)


def _json_lines(path: Path, lines: Iterable[str], faults: Faults) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = JSON.decode(line)
        except RepeatedKeyError as e:
            faults.add(f"{path}:{number}", str(e), line)
            continue
        except json.JSONDecodeError as e:
            faults.add(f"{path}:{number}", f"not JSON: {e.msg} at column {e.colno}", line)
            continue
        except RecursionError:
            faults.add(f"{path}:{number}", "lists or objects are nested too deeply; remove the row", line)
            continue
        if isinstance(row, dict):
            yield row
        else:
            faults.add(f"{path}:{number}", f"{type(row).__name__} where an object {{…}} was expected", row)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


class RepeatedKeyError(ValueError):
    """A JSON object has the same key twice. Python's decoder would silently drop all values but the last."""


def _distinct(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise RepeatedKeyError(f"has the key {key!r} twice in one object; keep one of them")
    return row


JSON = json.JSONDecoder(object_pairs_hook=_distinct)


READERS: dict[str, Callable[[Path, Faults, Position], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
