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

DATA_SET = ("state.json", "dataset_info.json")  # files of a folder that `datasets` saved one data set to


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
        """Return the local file or folder, whether it exists or not; None for a hub id.

        Raises:
            UserError: it is a folder with a split behind a colon, which is how a data set of the hub is named.
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
    yield from read_file(path, faults, position)


def _from_datasets(address: Address, folder: Path | None, position: Position) -> Iterator[Row]:
    """Read a data set from the hub, or from a folder of files, by the library `datasets`."""
    import datasets

    name, _, split = address.spec.partition(":") if folder is None else (str(folder), "", "")
    split = address.split or split or "train"
    asked = {"revision": address.revision, "streaming": address.streaming}
    if folder is not None and address.revision:
        raise UserError(f"{address.spec}: revision is for data sets on the hub, and this is a folder; remove it")
    try:
        if folder is not None and all((folder / file).is_file() for file in DATA_SET):
            rows = datasets.load_from_disk(name)  # of `save_to_disk`
            if str(rows.split or split) != split:
                raise ValueError(f"it holds the split {rows.split}")
        else:
            rows = datasets.load_dataset(name, split=split, **{k: v for k, v in asked.items() if v})
        position.of_rows(0 if address.streaming else len(rows))
        yield from map(without_absent, rows)
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
