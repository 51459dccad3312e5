"""Prompt sets: built-in suites by name, or a user's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefzoo.errors import UserError
from prefzoo.evals.judges.protocol import PromptRow
from prefzoo.evals.suites.instruct import build_prompts

BUILT_IN = {"train": 600, "eval": 100}


def load_prompts(spec: str, folder: Path) -> list[PromptRow]:
    """Load `instruct:train`, `instruct:eval` (`:N` for another number), or a file with a `prompt` column.

    Raises:
        UserError: there is no such set or file, or a row without a prompt.
    """
    if spec.startswith("instruct:"):
        _, split, *count = spec.split(":")
        if count and not (count[0].isdigit() and int(count[0])):
            raise UserError(f"{spec}: {count[0]!r} is no number of prompts; write instruct:{split}:100")
        return build_prompts(split, int(count[0]) if count else BUILT_IN.get(split, 0))
    from prefzoo.data.sources import load_file

    rows = load_file(spec, folder)
    faults = [
        f"{spec}: row {i}: prompt is missing or empty"
        for i, r in enumerate(rows, 1)
        if not str(r.get("prompt") or "").strip()
    ]
    faults += [
        f"{spec}: row {i}: checks is no list of mappings; write it like [{{kind: no_commas}}], or leave it out"
        for i, r in enumerate(rows, 1)
        if not _are_checks(r.get("checks") or ())
    ]
    if faults:
        raise UserError(faults[:20])
    return [
        PromptRow(str(r.get("id", i)), r["prompt"], tuple(r.get("checks") or ()), r.get("topic"))
        for i, r in enumerate(rows, 1)
    ]


def _are_checks(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, dict) for one in value)
