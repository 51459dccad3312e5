"""Read the rows of a data set from a local file, an installed package or the hub."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prefzoo.data.rows import MAX_FAULTS, Row
from prefzoo.data.schemas.normalise import rename_columns
from prefzoo.errors import UserError
from prefzoo.runtime.paths import PACKAGE_SCHEME, resolve_package


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


def load_file(spec: str, folder: Path) -> list[Row]:
    """Return all rows of a file, package file or hub data set, with whatever columns they have."""
    path = resolve_package(spec) if spec.startswith(PACKAGE_SCHEME) else folder / Path(spec).expanduser()
    rows = _from_file(path) if path.exists() or spec.endswith(tuple(READERS)) else _from_hub(spec)
    if not rows:
        raise UserError(f"{spec}: no rows in it; at least one is needed")
    return rows


def _from_file(path: Path) -> list[Row]:
    if not path.is_file():
        fault = (
            "a folder, not a file" if path.is_dir() else "no such file; paths in a recipe are relative to the recipe"
        )
        raise UserError(f"{path}: {fault}")
    reader = next((read for suffix, read in READERS.items() if path.name.endswith(suffix)), None)
    if reader is None:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; known are {', '.join(READERS)}")
    try:
        return reader(path)
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 at byte {e.start}; save it as UTF-8") from e
    except (OSError, EOFError) as e:  # gzip and parquet say so when the bytes are not theirs
        raise UserError(f"{path}: cannot be read: {str(e).splitlines()[0]}") from e


def _json(path: Path) -> list[Row]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as e:
        raise UserError(f"{path}:{e.lineno}: not JSON: {e.msg}") from e
    if not isinstance(rows, list):
        raise UserError(f"{path}: holds {type(rows).__name__}; expected a list of objects, one per pair")
    faults = [
        f"{path}: row {number}: {type(row).__name__} where an object {{…}} was expected"
        for number, row in enumerate(rows, 1)
        if not isinstance(row, dict)
    ]
    if faults:
        raise UserError(faults[:MAX_FAULTS])
    return rows


def _csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as f:
        try:
            rows: list[Row] = list(csv.DictReader(f, restkey=""))
        except csv.Error as e:
            raise UserError(f"{path}: not CSV: {e}") from e
    faults = [
        f"{path}: row {n}: more fields than the header; quote its commas" for n, r in enumerate(rows, 1) if "" in r
    ]
    if faults:
        raise UserError(faults[:MAX_FAULTS])
    return rows


def _parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()  # lists stay lists, where pandas makes arrays
    except pyarrow.ArrowInvalid as e:
        raise UserError(f"{path}: not parquet: {str(e).splitlines()[0]}") from e
    return rows


def _jsonl(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as f:
        return _json_lines(path, f)


def _json_lines(path: Path, lines: Iterable[str]) -> list[Row]:
    rows: list[Row] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as e:
            faults.append(f"{path}:{number}: not JSON: {e.msg} at column {e.colno}")
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            faults.append(f"{path}:{number}: {type(row).__name__} where an object {{…}} was expected")
    if faults:
        raise UserError(faults[:MAX_FAULTS])
    return rows


def _from_hub(spec: str) -> list[Row]:
    import datasets

    name, _, split = spec.partition(":")
    try:
        return [dict(r) for r in datasets.load_dataset(name, split=split or "train")]
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


READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
