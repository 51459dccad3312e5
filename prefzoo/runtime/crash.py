"""Save the traceback of an unexpected error to a file, so that the terminal needs to show one line only."""

from __future__ import annotations

import os
import platform
import shlex
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from prefzoo.runtime.paths import cache_root
from prefzoo.runtime.redaction import redact
from prefzoo.runtime.versions import version_of
from prefzoo.version import __version__

FOLDER = "tracebacks"
MAX_FILES = 50  # older tracebacks are removed
PACKAGES = ("torch", "transformers", "accelerate", "peft")


def write_traceback(error: BaseException, words: Sequence[str]) -> Path | None:
    """Write a traceback, the command and the versions to a file, without the environment's secrets.

    Args:
        error: The exception.
        words: The words of the command line.

    Returns:
        The file, in the user's cache, else in the system's folder for temporary files; None if neither can be written.
    """
    versions = ", ".join(f"{name} {version_of(name)}" for name in PACKAGES)
    head = f"{shlex.join(words)}\nprefzoo {__version__}, Python {platform.python_version()}, {versions}\n"
    head += f"{platform.platform()}\n\n"
    text = redact(head + "".join(traceback.format_exception(error)))
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    for folder in (cache_root() / FOLDER, Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
            if folder.name == FOLDER:
                for old in sorted(folder.glob("*.txt"))[:-MAX_FILES]:
                    old.unlink(missing_ok=True)
        except OSError:
            continue
        return folder / name
    return None
