"""Read the rows of a data set from a local file, an installed package or the hub."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from prefzoo.data.faults import Faults
from prefzoo.data.rows import Row
from prefzoo.data.schemas.normalise import rename_columns
from prefzoo.errors import UserError
from prefzoo.runtime.paths import PACKAGE_SCHEME, resolve_package

UTF_8 = "utf-8-sig"  # with or without a byte-order mark
LARGEST_FIELD = 2**31 - 1  # characters of a CSV file's cell; Python's own limit is 131,072


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
    path = resolve_package(spec) if spec.startswith(PACKAGE_SCHEME) else folder / Path(spec).expanduser()
    rows = _from_file(path, faults) if path.exists() or spec.endswith(tuple(READERS)) else _from_hub(spec)
    faults.settle()
    if not rows:
        raise UserError(f"{spec}: no rows in it; at least one is needed")
    return rows


def _from_file(path: Path, faults: Faults) -> list[Row]:
    if not path.is_file():
        fault = (
            "a folder, not a file" if path.is_dir() else "no such file; paths in a recipe are relative to the recipe"
        )
        raise UserError(f"{path}: {fault}")
    reader = next((read for suffix, read in READERS.items() if path.name.endswith(suffix)), None)
    if reader is None:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; known are {', '.join(READERS)}")
    try:
        return reader(path, faults)
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 at byte {e.start}; save it as UTF-8") from e
    except (OSError, EOFError) as e:  # gzip and parquet say so when the bytes are not theirs
        raise UserError(f"{path}: cannot be read: {str(e).splitlines()[0]}") from e


def _json(path: Path, faults: Faults) -> list[Row]:
    text = path.read_text(encoding=UTF_8)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as e:
        if _is_object(text.lstrip().partition("\n")[0]):  # JSON lines under another name
            return _json_lines(path, text.split("\n"), faults)
        raise UserError(f"{path}:{e.lineno}: not JSON: {e.msg}") from e
    if not isinstance(rows, list):
        raise UserError(f"{path}: holds {type(rows).__name__}; expected a list of objects, one per pair")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            faults.add(f"{path}: row {number}", f"{type(row).__name__} where an object {{…}} was expected", row)
    return [row for row in rows if isinstance(row, dict)]


def _csv(path: Path, faults: Faults) -> list[Row]:
    csv.field_size_limit(LARGEST_FIELD)
    with path.open(encoding=UTF_8, newline="") as f:
        separator = _separator(f.readline())
        f.seek(0)
        try:
            rows: list[Row] = list(csv.DictReader(f, restkey="", delimiter=separator))
        except csv.Error as e:
            raise UserError(f"{path}: not CSV: {e}") from e
    for number, row in enumerate(rows, 1):
        if "" in row:
            faults.add(f"{path}: row {number}", "more fields than the header; quote its commas", row)
    return [row for row in rows if "" not in row]


def _separator(header: str) -> str:
    """Return what separates the names in a header: spreadsheets also write semicolons or tabs."""
    return "," if "," in header else max(";\t", key=header.count) if set(header) & set(";\t") else ","


def _parquet(path: Path, faults: Faults) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()  # lists stay lists, where pandas makes arrays
    except pyarrow.ArrowInvalid as e:
        raise UserError(f"{path}: not parquet: {str(e).splitlines()[0]}") from e
    return [_without_absent(row) for row in rows]


def _without_absent(row: Mapping[str, Any]) -> Row:
    """Return a row whose structs have only the fields that were written: Arrow fills the others with None."""
    return {name: _present(value) for name, value in row.items()}


def _present(value: Any) -> Any:
    if isinstance(value, list):
        return [_present(one) for one in value]
    if isinstance(value, dict):
        return {name: _present(one) for name, one in value.items() if one is not None}
    return value


def _jsonl(path: Path, faults: Faults) -> list[Row]:
    with gzip.open(path, "rt", encoding=UTF_8) if path.suffix == ".gz" else path.open(encoding=UTF_8) as f:
        return _json_lines(path, f, faults)


def _json_lines(path: Path, lines: Iterable[str], faults: Faults) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as e:
            faults.add(f"{path}:{number}", f"not JSON: {e.msg} at column {e.colno}", line)
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            faults.add(f"{path}:{number}", f"{type(row).__name__} where an object {{…}} was expected", row)
    return rows


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def _from_hub(spec: str) -> list[Row]:
    import datasets

    name, _, split = spec.partition(":")
    try:
        return [_without_absent(r) for r in datasets.load_dataset(name, split=split or "train")]
    except Exception as e:  # the hub raises many kinds; each means "not to be had", and the user needs the reason
        reason = (str(e).splitlines() or ["no reason given"])[0]
        if "scripts are no longer supported" in reason:
            raise UserError(
                f"{spec}: is a program, and those of data sets are not run; name files, or a data set of parquet files"
            ) from e
        raise UserError(
            f"{spec}: no such file here, and the hub does not give it ({type(e).__name__}: {reason}); "
            "name a local file, or check the id, the network and HF_HUB_OFFLINE"
        ) from e


READERS: dict[str, Callable[[Path, Faults], list[Row]]] = {
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
