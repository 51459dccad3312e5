"""Answers and benchmark results in the user's cache, by what they depend on: shared by all runs, never made twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from prefzoo.paths import cache_dir
from prefzoo.runs import write_json

ENGINE = 2  # raise when our generation or its judging changes: what another engine made is not read


def kept(
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


def key_of(value: Any) -> str:
    """Hash of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
