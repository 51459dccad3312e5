"""Cache JSON values: answers, benchmark results, verdicts, replies of paid judges, measured times.

A cache is a file of lines `{"sha256": ..., "key": ..., "value": ...}`, to which lines are only appended. A killed
process leaves whole lines and at most one half line; a damaged line is never read. Processes on several machines may
share a file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from prefzoo.runtime.paths import cache_dir
from prefzoo.runtime.versions import version_of

ENGINE = 2  # increment when generation or judging changes, so that older values are not read
WHOLE = "whole"  # the key of a value that has a file of its own
HEAD, DIGEST = b'{"sha256": "', 16  # how a line starts, and how many characters of the checksum follow


class Cache:
    """Values by key in one file; a value is in the file when `put` returns.

    Args:
        path: The file; the first `put` creates it.
        sync: Whether `put` waits for the disk, so that values survive a loss of power and not only a kill.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self.path, self._sync = path, sync
        self._values: dict[str, Any] = {}
        self._read_to = 0  # bytes of the file that were read
        self._lock = Lock()

    def get(self, key: str) -> Any:
        """Return the value of a key, or None if it has none; values that other processes have written are included."""
        with self._lock:
            self._read_new_lines()
            return self._values.get(key)

    def put(self, values: Mapping[str, Any]) -> None:
        """Append values, none of which may be None; a new value replaces an older one of the same key.

        Raises:
            OSError: The file cannot be written; the error names it.
        """
        lines = b"".join(_line(key, value) for key, value in values.items())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._lock, self.path.open("ab+") as file, _exclusive(file):
                _drop_half_line(file)
                file.write(lines)
                file.flush()
                if self._sync:
                    os.fsync(file.fileno())
        except OSError as e:
            raise OSError(e.errno, e.strerror, str(self.path)) from e

    def _read_new_lines(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                new = file.read()
        except OSError:  # most often, the file does not exist yet
            return
        start = self._read_to
        for line in new[: new.rfind(b"\n") + 1].splitlines(keepends=True):
            try:
                key, value = _parsed(line)
                self._values[key] = value
            except (ValueError, KeyError):
                self._erase(start, line)
            start += len(line)
        self._read_to = start

    def _erase(self, start: int, line: bytes) -> None:
        """Overwrite a damaged line with spaces, so that it is reported once and the lines after it do not move."""
        if not line.strip():
            return
        print(f"{self.path}: an entry is damaged (its checksum is wrong); created again", flush=True)
        with suppress(OSError), self.path.open("rb+") as file:
            file.seek(start)
            file.write(b" " * (len(line) - 1))


def _line(key: str, value: Any) -> bytes:
    rest = f'", {json.dumps({"key": key, "value": value})[1:]}'.encode()
    return HEAD + _digest(rest) + rest + b"\n"


def _parsed(line: bytes) -> tuple[str, Any]:
    digest, rest = line[len(HEAD) : len(HEAD) + DIGEST], line[len(HEAD) + DIGEST : -1]
    if digest != _digest(rest):
        raise ValueError("wrong checksum")
    entry = json.loads(line)
    return entry["key"], entry["value"]


def _digest(rest: bytes) -> bytes:
    return hashlib.sha256(rest).hexdigest()[:DIGEST].encode()


@contextmanager
def _exclusive(file: BinaryIO) -> Iterator[None]:
    """Lock the file against other writers until it is closed."""
    with suppress(OSError):  # without locks in the file system, lines that two processes mix up fail their checksums
        fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _drop_half_line(file: BinaryIO) -> None:
    """Cut off the half line that a killed process left; the caller holds the lock."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if file.read(1) not in (b"", b"\n"):
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def cache_of(group: str, name: str, *identity: Any, sync: bool = True) -> Cache:
    """Open a cache of values that depend on `identity`, the engine, and the versions of torch and transformers.

    Args:
        group: Folder in the user's cache.
        name: Start of the file's name.
        identity: Values that JSON can hold.
        sync: As for `Cache`.

    Returns:
        The cache; its file may not exist yet.
    """
    key = key_of([*identity, ENGINE, version_of("torch"), version_of("transformers")])
    return Cache(cache_dir(group) / f"{name}-{key}.jsonl", sync=sync)


class SharedCache:
    """A cache for several processes: the main process reads and writes, and all processes get the same values."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def get(self, key: str) -> Any:
        """Return the value of a key, or None if it has none; all processes must call this."""
        from prefzoo.runtime.distributed import broadcast, process_state  # imports torch

        return broadcast(self._cache.get(key) if process_state().is_main_process else None)

    def put(self, values: Mapping[str, Any]) -> None:
        """Append values as `Cache.put` does, in the main process only."""
        from prefzoo.runtime.distributed import process_state

        if process_state().is_main_process:
            self._cache.put(values)


def cached(
    stage: str, depends: Mapping[str, Any], make: Callable[[], Any], worth: Callable[[Any], bool] = lambda _: True,
    *, shared: bool = False,
) -> Any:  # fmt: skip
    """Return the cached value of a stage, or compute and cache it.

    Args:
        stage: Kind of the value, such as `benchmark`.
        depends: Everything that the value depends on.
        make: Function that computes the value, which JSON must be able to hold.
        worth: Function that returns whether a computed value is to be cached.
        shared: Whether all processes call this and compute the value together.

    Returns:
        The value.
    """
    return _cached(_cache_of(stage, depends, shared=shared), WHOLE, make, worth)


def _cache_of(stage: str, depends: Mapping[str, Any], *, shared: bool) -> Cache | SharedCache:
    cache = cache_of("evals", stage, depends)
    return SharedCache(cache) if shared else cache


def _cached(cache: Cache | SharedCache, key: str, make: Callable[[], Any], worth: Callable[[Any], bool]) -> Any:
    value = cache.get(key)
    if value is None:
        value = make()
        if worth(value):
            cache.put({key: value})
    return value


def cached_by_prompt(
    stage: str, depends: Mapping[str, Any], prompts: Sequence[Any], make: Callable[[list[Any]], list[Any]],
    progress: Callable[[int, int], None] | None = None, *, together: int, shared: bool = False,
) -> list[Any]:  # fmt: skip
    """Return a value for each prompt; values that are not cached are computed and cached in batches.

    A call that was killed resumes after its last whole batch. Batches hold prompts of similar length. They are the same
    in each call, so rounding is the same too.

    Args:
        stage: Kind of the values, such as `answers`.
        depends: Everything that the values depend on besides the prompts.
        prompts: Texts, or anything else that JSON can hold.
        make: Function that computes the values of some prompts, in their order; JSON must be able to hold them.
        progress: Called with the numbers of finished and of all prompts.
        together: Number of prompts in a batch.
        shared: Whether all processes call this and compute the values together.

    Returns:
        The values, in the order of `prompts`.
    """
    cache = _cache_of(stage, depends, shared=shared)
    lengths = [len(p if isinstance(p, str) else json.dumps(p)) for p in prompts]
    by_length = sorted(range(len(prompts)), key=lengths.__getitem__)
    values: list[Any] = [None] * len(prompts)
    for start in range(0, len(prompts), together):
        batch = by_length[start : start + together]
        texts = [prompts[i] for i in batch]
        for i, value in zip(batch, _cached(cache, key_of(texts), partial(make, texts), lambda _: True), strict=True):
            values[i] = value
        if progress:
            progress(start + len(batch), len(prompts))
    return values


def key_of(value: Any) -> str:
    """Return a hash of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
