"""Read the rows of a data set from a local file, an installed package or the hub."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from prefzoo.data.faults import Faults
from prefzoo.data.rows import Row
from prefzoo.data.schemas.columns import rename_columns
from prefzoo.errors import UserError
from prefzoo.runtime.paths import PACKAGE_SCHEME, resolve_package

UTF_8 = "utf-8-sig"  # with or without a byte-order mark
AT_ONCE = 1000  # rows of a parquet file that are held
LARGEST_FIELD = 2**31 - 1  # characters of a CSV file's cell; Python's own limit is 131,072


@dataclass(frozen=True)
class Address:
    """Where the rows of a data set are.

    Attributes:
        spec: a path (relative to the recipe's folder), `package://module/path`, or a hub id (`owner/name` or
            `owner/name:split`). A folder is read as the hub's data sets are.
        split: of a data set on the hub, or in a folder; by default `train`.
        revision: of a data set on the hub: a commit, a branch or a tag; by default the newest.
        streaming: whether its rows are read as they arrive, without a copy on the disk.
    """

    spec: str
    split: str | None = None
    revision: str | None = None
    streaming: bool = False

    def path(self, folder: Path) -> Path | None:
        """Return the local file or folder, whether it exists or not; None for a hub id."""
        if self.spec.startswith(PACKAGE_SCHEME):
            return resolve_package(self.spec)
        path = folder / Path(self.spec).expanduser()
        return path if path.exists() or self.spec.endswith(tuple(READERS)) else None


def read_rows(spec: str, folder: Path, columns: Mapping[str, str] | None = None) -> list[Row]:
    """Read a preference data set.

    Args:
        spec: a path (relative to `folder`), `package://module/path`, or a hub id (`owner/name` or `owner/name:split`).
        folder: where relative paths start.
        columns: the name that a schema has for a column -> the file's.

    Returns:
        All rows, with the columns of their schema.

    Raises:
        UserError: absent, unreachable, broken or empty data, or missing columns; every line names the data set.
    """
    return rename_columns(load_file(spec, folder), columns or {}, spec)


def load_file(spec: str, folder: Path, faults: Faults | None = None) -> list[Row]:
    """Read a file, package file or hub data set, with whatever columns it has.

    Args:
        spec, folder: as for `read_rows`.
        faults: takes the lines that are no rows; by default they are errors.

    Returns:
        All rows.

    Raises:
        UserError: absent, unreachable, broken or empty data; every line names the data set.
    """
    faults = Faults(spec) if faults is None else faults
    rows = list(iterate_rows(Address(spec), folder, faults))
    faults.settle()
    if not rows:
        raise UserError(f"{spec}: no rows in it; at least one is needed")
    return rows


class Position:
    """How much of a data set was read, as far as its kind of file tells."""

    def __init__(self) -> None:
        self._rows, self._size = 0, 0
        self._file: Any = None

    def of_rows(self, total: int) -> None:
        """Take the number of rows that there are."""
        self._rows = total

    def of_file(self, file: Any, size: int) -> None:
        """Follow an open file of a number of bytes."""
        self._file, self._size = file, size

    @property
    def share(self) -> float | None:
        """The share of the file that was read; None where that is not known."""
        if self._file is None or not self._size:
            return None
        return 1.0 if self._file.closed else min(self._file.tell() / self._size, 1.0)

    def total(self, read: int) -> int:
        """Return about how many rows there are, given how many were read; 0 where that is not known."""
        share = self.share
        return self._rows or (max(round(read / share), read) if share else 0)


def iterate_rows(address: Address, folder: Path, faults: Faults, position: Position | None = None) -> Iterator[Row]:
    """Read a data set row by row; of a file of lines, CSV or parquet no more than a part is held at a time.

    Args:
        address: where the rows are.
        folder: where relative paths start.
        faults: takes the lines that are no rows.
        position: follows how much is read.

    Returns:
        An iterator over the rows, with whatever columns they have.

    Raises:
        UserError: absent, unreachable or broken data; every line names the data set.
    """
    path, position = address.path(folder), position or Position()
    if path is None or path.is_dir():
        yield from _from_datasets(address, path, position)
        return
    wanted = [n for n in ("split", "revision", "streaming") if getattr(address, n)]
    if wanted:
        raise UserError(
            f"{address.spec}: {wanted[0]} is for data sets on the hub and in folders, and this is a file, which is "
            "read in parts anyway; remove it"
        )
    yield from _from_file(path, faults, position)


def _from_file(path: Path, faults: Faults, position: Position) -> Iterator[Row]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; paths in a recipe are relative to the recipe")
    reader = next((read for suffix, read in READERS.items() if path.name.endswith(suffix)), None)
    if reader is None:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; known are {', '.join(READERS)}")
    try:
        yield from reader(path, faults, position)
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 at byte {e.start}; save it as UTF-8") from e
    except (OSError, EOFError) as e:  # gzip and parquet say so when the bytes are not theirs
        raise UserError(f"{path}: cannot be read: {str(e).splitlines()[0]}") from e


def _json(path: Path, faults: Faults, position: Position) -> Iterator[Row]:
    text = path.read_text(encoding=UTF_8)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as e:
        if _is_object(text.lstrip().partition("\n")[0]):  # JSON lines under another name
            yield from _json_lines(path, text.split("\n"), faults)
            return
        raise UserError(f"{path}:{e.lineno}: not JSON: {e.msg}") from e
    except RecursionError:
        raise UserError(f"{path}: lists or objects are nested too deeply; it is not a list of pairs") from None
    if not isinstance(rows, list):
        raise UserError(f"{path}: holds {type(rows).__name__}; expected a list of objects, one per pair")
    position.of_rows(len(rows))
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            yield row
        else:
            faults.add(f"{path}: row {number}", f"{type(row).__name__} where an object {{…}} was expected", row)


def _csv(path: Path, faults: Faults, position: Position) -> Iterator[Row]:
    csv.field_size_limit(LARGEST_FIELD)
    with path.open(encoding=UTF_8, newline="") as f:
        position.of_file(f.buffer, path.stat().st_size)
        separator = _separator(f.readline())
        f.seek(0)
        try:
            for number, row in enumerate(csv.DictReader(f, restkey="", delimiter=separator), 1):
                if "" in row:
                    faults.add(f"{path}: row {number}", "more fields than the header; quote its commas", row)
                else:
                    yield row
        except csv.Error as e:
            raise UserError(f"{path}: not CSV: {e}") from e


def _separator(header: str) -> str:
    """Return what separates the names in a header: spreadsheets also write semicolons or tabs."""
    return "," if "," in header else max(";\t", key=header.count) if set(header) & set(";\t") else ","


def _parquet(path: Path, faults: Faults, position: Position) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            position.of_rows(file.metadata.num_rows)
            for part in file.iter_batches(AT_ONCE):
                yield from map(_without_absent, part.to_pylist())  # lists stay lists, where pandas makes arrays
    except pyarrow.ArrowInvalid as e:
        raise UserError(f"{path}: not parquet: {str(e).splitlines()[0]}") from e


def _without_absent(row: Mapping[str, Any]) -> Row:
    """Return a row whose structs have only the fields that were written: Arrow fills the others with None."""
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
        plain: Any = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        with TextIOWrapper(plain, encoding=UTF_8) as lines:
            yield from _json_lines(path, lines, faults)


def _json_lines(path: Path, lines: Iterable[str], faults: Faults) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
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


def _from_datasets(address: Address, folder: Path | None, position: Position) -> Iterator[Row]:
    """Read a data set from the hub, or from a folder of files, by the library `datasets`."""
    import datasets

    name, _, split = address.spec.partition(":") if folder is None else (str(folder), "", "")
    split = address.split or split or "train"
    asked = {"revision": address.revision, "streaming": address.streaming}
    if folder is not None and address.revision:
        raise UserError(f"{address.spec}: revision is for data sets on the hub, and this is a folder; remove it")
    try:
        rows = datasets.load_dataset(name, split=split, **{k: v for k, v in asked.items() if v})
        position.of_rows(0 if address.streaming else len(rows))
        yield from map(_without_absent, rows)
    except Exception as e:  # the hub raises many kinds; each means "not to be had", and the user needs the reason
        reason = (str(e).splitlines() or ["no reason given"])[0]
        if "scripts are no longer supported" in reason:
            raise UserError(
                f"{address.spec}: is a program, and prefzoo does not run programs of data sets; name files, or a data "
                f"set of "
                "parquet files"
            ) from e
        if folder is not None:
            raise UserError(
                f"{folder}: a folder that cannot be read as a data set ({reason}); name a file of "
                "pairs in data.train or data.eval"
            ) from e
        raise UserError(
            f"{address.spec}: no such file here, and the hub does not give it ({type(e).__name__}: {reason}); "
            "name a local file, or check the id, the network and HF_HUB_OFFLINE"
        ) from e


READERS: dict[str, Callable[[Path, Faults, Position], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
