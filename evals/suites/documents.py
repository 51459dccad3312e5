"""Read and write the items of an embedded suite: its lm-eval task reads them, and its `make.py` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ITEMS = "items.jsonl"


def beside(file: str) -> Callable[..., dict[str, Any]]:
    """Return a `custom_dataset` function for lm-eval, whose test split is `items.jsonl` in the folder of `file`."""

    def documents(**_: Any) -> dict[str, Any]:
        from datasets import Dataset

        lines = (Path(file).parent / ITEMS).read_text(encoding="utf-8").splitlines()
        return {"test": Dataset.from_list([json.loads(line) for line in lines])}

    return documents


def text_of(items: Sequence[dict[str, Any]]) -> str:
    """Return the items as lines of JSON."""
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


def write(file: str, items: Sequence[dict[str, Any]]) -> None:
    """Write items to `items.jsonl` in the folder of `file`."""
    (Path(file).parent / ITEMS).write_text(text_of(items), encoding="utf-8")
