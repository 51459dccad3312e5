"""Record where the rows of a data set come from, by hash or revision, so that others can compare."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prefzoo.data.sources import Address
from prefzoo.runtime.paths import PACKAGE_SCHEME


@dataclass(frozen=True)
class Origin:
    """The rows' file, folder, package or hub data set.

    Attributes:
        kind: which of them it is.
        spec: as the recipe names it.
        sha256: of a file; of a folder, of the names and hashes of its files; None for the hub.
        bytes: size of the file, or of all files of a folder; None for the hub.
        split: of the hub's data set, or the folder's, as the recipe asks; None for `train`.
        revision: commit of the hub's data set, as far as it is known; else what the recipe asks for.
    """

    kind: Literal["file", "folder", "package", "hub"]
    spec: str
    sha256: str | None = None
    bytes: int | None = None
    split: str | None = None
    revision: str | None = None


def origin_of(address: Address, folder: Path) -> Origin:
    """Return where rows come from.

    Args:
        address: where they were read.
        folder: where relative paths start.

    Returns:
        Their origin. Files are read once more for their hashes, in parts.
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
    """Return the commit that a name of the hub's cache stands for; None where it was not downloaded by this name."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    repository = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="dataset")
    try:
        return (repository / "refs" / (revision or "main")).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
