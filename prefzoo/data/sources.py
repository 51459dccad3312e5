"""Rows of a data set, wherever it lies: local file, installed package, hub."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prefzoo.errors import UserError, did_you_mean
from prefzoo.paths import SCHEME, resolve_package

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")


def read_rows(spec: str, folder: Path, columns: Mapping[str, str] | None = None) -> list[Row]:
    """All rows of a preference data set, with `columns` (ours -> the file's) renamed to prompt/chosen/rejected.

    Args:
        spec: a path (relative to `folder`), `package://module/path`, or a hub id (`owner/name` or `owner/name:split`).

    Raises:
        UserError: absent, unreachable, broken or empty data, or missing columns; every line names its place.
    """
    return _rename(spec, load_file(spec, folder), columns or {})


def load_file(spec: str, folder: Path) -> list[Row]:
    """All rows of a file, package file or hub data set, with whatever columns they have."""
    path = resolve_package(spec) if spec.startswith(SCHEME) else folder / Path(spec).expanduser()
    rows = _from_file(path) if path.exists() or spec.endswith(SUFFIXES) else _from_hub(spec)
    if not rows:
        raise UserError(f"{spec}: no rows in it; at least one is needed")
    return rows


def _from_file(path: Path) -> list[Row]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; paths in a recipe are relative to the recipe")
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as f:
            return _json_lines(path, f)
    if path.suffix == ".json":
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as e:
            raise UserError(f"{path}: not JSON: {e}") from e
        if not isinstance(found, list) or not all(isinstance(r, dict) for r in found):
            raise UserError(f"{path}: holds {type(found).__name__}; expected a list of objects, one per pair")
        return found
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as f:
            return list(csv.DictReader(f))
    if path.suffix == ".parquet":
        import pandas as pd

        return [{str(k): v for k, v in row.items()} for row in pd.read_parquet(path).to_dict("records")]
    raise UserError(f"{path}: unknown kind of file {path.suffix!r}; known are {', '.join(SUFFIXES)}")


def _json_lines(path: Path, lines: Iterable[str]) -> list[Row]:
    rows: list[Row] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as e:
            faults.append(f"{path}:{number}: not JSON: {e}")
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            faults.append(f"{path}:{number}: {type(row).__name__} where an object {{…}} was expected")
    if faults:
        raise UserError(faults[:20])
    return rows


def _from_hub(spec: str) -> list[Row]:
    import datasets

    name, _, split = spec.partition(":")
    try:
        return [dict(r) for r in datasets.load_dataset(name, split=split or "train")]
    except Exception as e:  # the hub raises many kinds; each means "not to be had", and the user needs the reason
        reason = str(e).splitlines()[0]
        raise UserError(
            f"{spec}: no such file here, and the hub does not give it ({type(e).__name__}: {reason}); "
            "name a local file, or check the id, the network and HF_HUB_OFFLINE"
        ) from e


def _rename(spec: str, rows: list[Row], columns: Mapping[str, str]) -> list[Row]:
    have = sorted({k for r in rows for k in r})
    wanted = {ours: columns.get(ours, ours) for ours in ("chosen", "rejected")}
    if "prompt" in columns:
        wanted["prompt"] = columns["prompt"]
    missing = [
        f"{spec}: no column {theirs!r} for {ours}; it has {', '.join(have)}{did_you_mean(theirs, have)}"
        f" (map it: data.columns.{ours}: NAME)"
        for ours, theirs in wanted.items()
        if theirs not in have
    ]
    if missing:
        raise UserError(missing)
    return [{**r, **{ours: r.get(theirs) for ours, theirs in wanted.items()}} for r in rows]
