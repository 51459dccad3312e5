"""What local judges said, kept call by call: a killed judging goes on where it stopped, and nothing is asked twice."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prefzoo.evals.judges.position_swap import Said
from prefzoo.runtime.cache import ENGINE
from prefzoo.runtime.paths import cache_dir

Part = Mapping[int, Said]  # what was said, by the number of the question


class Kept:
    """Numbers by key in a file of lines; a line is written as soon as there is something to keep.

    A process that dies leaves whole lines and at most one half; that one is not read, and neither is a line that is
    not what was written. Several processes may write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, float] = {}
        self._read = 0  # bytes; another process may have written more since

    def read(self) -> Mapping[str, float]:
        """All that is kept by now."""
        try:
            with self.path.open("rb") as f:
                f.seek(self._read)
                new = f.read()
        except OSError:
            return self._known
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                key, value, check = json.loads(line)
                if check == _check(key, value):
                    self._known[key] = float(value)
            except (ValueError, TypeError):
                continue  # the half line of a process that was killed
        return self._known

    def write(self, values: Mapping[str, float]) -> None:
        """Keep some numbers. Each line starts anew, behind whatever a killed process left."""
        lines = "".join(f"\n{json.dumps([key, value, _check(key, value)])}\n" for key, value in values.items())
        with self.path.open("ab", buffering=0) as f:
            f.write(lines.encode())


def _check(key: str, value: float) -> str:
    return hashlib.sha256(f"{key} {value!r}".encode()).hexdigest()[:8]


def kept_of(*identity: str) -> Kept:
    """The file of one judge in the user's cache: by its identity, and by the versions that its numbers come from."""
    whole = [*identity, ENGINE, version("torch"), version("transformers")]
    name = hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]
    return Kept(cache_dir("judges") / f"said-{name}.jsonl")


def once(kept: Kept | None, questions: Sequence[Any], ask: Callable[[Sequence[int]], Iterable[Part]]) -> list[Said]:
    """What is kept on each question (a value that JSON holds), and what `ask` says on the others, each asked once.

    `ask` gets numbers of questions, and gives what was said in parts; each part is kept before the next is made. Why
    there is no number is not kept: another call asks again.
    """
    keys = [hashlib.sha256(json.dumps(q).encode()).hexdigest()[:32] for q in questions]
    known: dict[str, Said] = dict(kept.read()) if kept else {}
    first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}
    for part in ask(sorted(first.values())) if first else ():
        said = {keys[i]: value for i, value in part.items()}
        known |= said
        numbers = {k: v for k, v in said.items() if not isinstance(v, str) and math.isfinite(v)}
        if kept and numbers:
            kept.write(numbers)
    return [known[key] for key in keys]
