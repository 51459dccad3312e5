"""Read the rows of a data set from a local file, an installed package or the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prefzoo.data.faults import Faults
from prefzoo.data.files import Position, is_file_of_rows, read_file, without_absent
from prefzoo.data.rows import Row
from prefzoo.data.schemas.columns import rename_columns
from prefzoo.errors import UserError
from prefzoo.runtime.paths import PACKAGE_SCHEME, resolve_package

SAVED = ("state.json", "dataset_info.json")  # both are in a folder that `Dataset.save_to_disk` wrote


@dataclass(frozen=True)
class Address:
    """The location of a data set's rows.

    Attributes:
        spec: a path (relative to the recipe's folder), `package://module/path`, or a hub id (`owner/name` or
            `owner/name:split`). A folder is read by the library `datasets`, like a data set on the hub.
        split: the split of a data set on the hub or in a folder; `train` if None.
        revision: the commit, branch or tag of a data set on the hub; the newest if None.
        streaming: whether rows are read as they arrive from the hub, without a copy on disk.
    """

    spec: str
    split: str | None = None
    revision: str | None = None
    streaming: bool = False

    def path(self, folder: Path) -> Path | None:
        """Return the path of the local file or folder, which need not exist; None for a hub id.

        Raises:
            UserError: the spec is a folder, a colon and a split; only hub ids are written that way.
        """
        if self.spec.startswith(PACKAGE_SCHEME):
            return resolve_package(self.spec)
        path = folder / Path(self.spec).expanduser()
        if path.exists() or is_file_of_rows(self.spec):
            return path
        name, _, split = self.spec.rpartition(":")
        if name and (folder / Path(name).expanduser()).is_dir():
            raise UserError(f"{self.spec}: {name} is a folder; name its split like {{path: {name}, split: {split}}}")
        return None


def read_rows(spec: str, folder: Path, columns: Mapping[str, str] | None = None) -> list[Row]:
    """Read a preference data set.

    Args:
        spec: a path (relative to `folder`), `package://module/path`, or a hub id (`owner/name` or `owner/name:split`).
        folder: the folder that relative paths start from.
        columns: a schema's name of a column -> the file's name of it.

    Returns:
        All rows, with the columns of their schema.

    Raises:
        UserError: the data is absent, unreachable, broken or empty, or columns are missing. Each line of the message
            names the data set.
    """
    return rename_columns(load_file(spec, folder), columns or {}, spec)


def load_file(spec: str, folder: Path, faults: Faults | None = None) -> list[Row]:
    """Read all rows of a file, package file or hub data set, without looking at their columns.

    Args:
        spec, folder: as for `read_rows`.
        faults: collects the lines that are not rows; if None, such lines raise an error.

    Returns:
        All rows.

    Raises:
        UserError: the data is absent, unreachable, broken or empty. Each line of the message names the data set.
    """
    faults = Faults(spec) if faults is None else faults
    rows = list(iterate_rows(Address(spec), folder, faults))
    faults.settle()
    if not rows:
        raise UserError(f"{spec}: no rows in it; at least one is needed")
    return rows


def iterate_rows(address: Address, folder: Path, faults: Faults, position: Position | None = None) -> Iterator[Row]:
    """Read a data set row by row. JSON lines, CSV and parquet files are never held in memory as a whole.

    Args:
        address: the location of the rows.
        folder: the folder that relative paths start from.
        faults: collects the lines that are not rows.
        position: is updated as rows are read.

    Returns:
        An iterator over the rows, with all columns of the file.

    Raises:
        UserError: the data is absent, unreachable or broken. Each line of the message names the data set.
    """
    path, position = address.path(folder), position or Position()
    if path is None or path.is_dir():
        yield from _from_datasets(address, path, position)
        return
    wanted = [n for n in ("split", "revision", "streaming") if getattr(address, n)]
    if wanted:
        raise UserError(
            f"{address.spec}: {wanted[0]} is for data sets on the hub and in folders, and this is a file; remove it"
        )
    yield from read_file(path, faults, position)


def _from_datasets(address: Address, folder: Path | None, position: Position) -> Iterator[Row]:
    """Read a data set from the hub, or from a local folder, with the library `datasets`."""
    import datasets

    name, _, split = address.spec.partition(":") if folder is None else (str(folder), "", "")
    split = address.split or split or "train"
    options = {"revision": address.revision, "streaming": address.streaming}
    if folder is not None and address.revision:
        raise UserError(f"{address.spec}: revision is for data sets on the hub, and this is a folder; remove it")
    saved = folder is not None and all((folder / file).is_file() for file in SAVED)
    if saved and address.streaming:
        raise UserError(f"{address.spec}: `save_to_disk` wrote this folder, which is read in place; remove streaming")
    try:
        if saved:
            rows = datasets.load_from_disk(name)
            if str(rows.split or split) != split:
                raise ValueError(f"it holds the split {rows.split}")
        else:
            rows = datasets.load_dataset(name, split=split, **{k: v for k, v in options.items() if v})
        position.of_rows(0 if address.streaming else len(rows))
        yield from map(without_absent, rows)
    except Exception as e:  # `datasets` raises many types; the user needs the reason
        reason = (str(e).splitlines() or ["no reason given"])[0]
        if "scripts are no longer supported" in reason:
            raise UserError(
                f"{address.spec}: this data set is a Python script, and prefzoo does not run scripts of data sets; "
                "name local files, or a data set of parquet files"
            ) from e
        if folder is not None:
            raise UserError(
                f"{folder}: this folder cannot be read as a data set ({reason}); name a file of pairs in data.train or "
                "data.eval"
            ) from e
        raise UserError(
            f"{address.spec}: is not a local file, and loading it from the hub failed ({type(e).__name__}: {reason}); "
            "name a local file, or check the id, the network and HF_HUB_OFFLINE"
        ) from e
