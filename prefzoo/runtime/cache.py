"""Answers and benchmark results in the user's cache, by what they depend on: shared by all runs, never made twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from prefzoo.runtime.paths import cache_dir
from prefzoo.runtime.run_folders import write_json

ENGINE = 2  # raise when our generation or its judging changes: what another engine made is not read
BATCH = 50  # prompts whose answers are made, and kept, together


def cached(
    stage: str, depends: Mapping[str, Any], make: Callable[[], Any], worth: Callable[[Any], bool] = lambda _: True
) -> Any:
    """`make()`, a value that JSON holds, or what it gave for the same `depends`, which is written beside it.

    `worth`: whether a value is one to keep.
    """
    full = {**depends, "engine": ENGINE, "transformers": version("transformers"), "torch": version("torch")}
    path = cache_dir("evals") / f"{stage}-{key_of(full)}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["depends"] != json.loads(json.dumps(full)) or found["sha256"] != key_of(found["value"]):
            raise ValueError("other content than was written")
        return found["value"]
    except OSError:  # mostly: nothing there
        pass
    except (ValueError, KeyError, TypeError):
        print(f"{path}: broken (its content is not what was written); made again", flush=True)
    value = make()
    if worth(value):
        write_json(path, {"depends": full, "sha256": key_of(value), "value": value})
    return value


def cached_by_prompt(
    stage: str, depends: Mapping[str, Any], prompts: Sequence[str], make: Callable[[list[str]], list[Any]],
    progress: Callable[[int, int], None] | None = None,
) -> list[Any]:  # fmt: skip
    """What `make` gives for each prompt, in their order, in batches of prompts of like length: each is kept at once.

    A killed call goes on behind its last whole batch, and batches are what they were, hence also their rounding.
    """
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: list[Any] = [None] * len(prompts)
    for start in range(0, len(prompts), BATCH):
        part = by_length[start : start + BATCH]
        texts = [prompts[i] for i in part]
        values = cached(stage, {**depends, "prompts": texts}, partial(make, texts))
        for i, value in zip(part, values, strict=True):
            found[i] = value
        if progress:
            progress(start + len(part), len(prompts))
    return found


def key_of(value: Any) -> str:
    """Hash of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
