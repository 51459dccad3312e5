"""Record which exact data was read, by hash or revision, so that others can check that they have the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prefzoo.data.sources import Address
from prefzoo.runtime.paths import PACKAGE_SCHEME


@dataclass(frozen=True)
class Origin:
    """The file, folder, package file or hub data set that rows were read from.

    Attributes:
        kind: which of these it is.
        spec: the recipe's spec of it.
        sha256: hash of the file, or of the names and hashes of all files in the folder; None for the hub.
        bytes: size of the file, or of all files in the folder; None for the hub.
        split: the split of a hub data set or folder that the recipe names; None if it names none (then `train`).
        revision: the downloaded commit of a hub data set; if it is not known, the revision that the recipe names.
    """

    kind: Literal["file", "folder", "package", "hub"]
    spec: str
    sha256: str | None = None
    bytes: int | None = None
    split: str | None = None
    revision: str | None = None


def origin_of(address: Address, folder: Path) -> Origin:
    """Return the origin of rows, with hashes of local files.

    Args:
        address: the location of the rows.
        folder: the folder that relative paths start from.

    Returns:
        The origin. To hash local files, they are read again, without loading them into memory as a whole.
    """
    path = address.path(folder)
    if path is None:
        commit = _downloaded_commit(address.spec.partition(":")[0], address.revision)
        split = address.split or address.spec.partition(":")[2] or None
        return Origin("hub", address.spec, split=split, revision=commit or address.revision)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        names = "".join(f"{file.relative_to(path).as_posix()} {_sha256(file)}\n" for file in files)
        size = sum(file.stat().st_size for file in files)
        return Origin("folder", address.spec, hashlib.sha256(names.encode()).hexdigest(), size, address.split)
    kind: Literal["file", "package"] = "package" if address.spec.startswith(PACKAGE_SCHEME) else "file"
    return Origin(kind, address.spec, _sha256(path), path.stat().st_size)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _downloaded_commit(name: str, revision: str | None) -> str | None:
    """Return the commit of a data set in the hub's local cache; None if this revision of it was not downloaded."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    repository = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="dataset")
    try:
        return (repository / "refs" / (revision or "main")).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
