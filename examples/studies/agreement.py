"""How far two studies agree on the order of their variants, from the rows that each study stores."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from examples.studies.numbers import ALPHA, POINTS, START, Numbers, stacked
from prefzoo.errors import UserError
from prefzoo.evals.boards.agreement import order_of, places_gained
from prefzoo.evals.boards.run_files import RunFiles, read_run
from prefzoo.evals.boards.selection import select
from prefzoo.evals.boards.standings import primary
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import seeded_difference
from prefzoo.evals.stats.intervals import Values
from prefzoo.evals.stats.rank_agreement import THREE, rank_agreement

ROWS = "rows.json"
SHOWN = 12  # characters of a prompt's hash
AGREE = 0.5  # Kendall's tau: three in four pairs of variants are in the same order


def rows_of(folder: Path) -> dict[str, Any]:
    """Return the value of every variant, seed and prompt of a finished run, for its `rows.json`.

    A study's answers are too large to be committed. These values are all that a comparison of two studies needs.

    Args:
        folder: the run's.
    """
    run, entries = read_run(folder), [e for e in select([folder]) if not e.is_base]
    metric = primary(entries)
    values = stacked(run, entries, metric)
    return {"metric": metric, "prompts": _prompts(run), "values": {name: v.tolist() for name, v in values.items()}}


def _prompts(run: RunFiles) -> list[str]:
    """Return a hash of each prompt, in order."""
    outputs = next((v.outputs for v in run.variants.values() if v.outputs), [])
    return [hashlib.sha256(row["instruction"].encode()).hexdigest()[:SHOWN] for row in outputs]


def agreement_of(one: Path, other: Path) -> Numbers:
    """Return how far two studies agree on the order of their variants, and what each variant gained.

    Args:
        one, other: folders with a `rows.json`.

    Raises:
        UserError: a file is missing, or the studies differ in metric or prompts, or share fewer than three variants.
    """
    first, second = read_rows(one), read_rows(other)
    for key in ("metric", "prompts"):
        if first[key] != second[key]:
            raise UserError(f"{one / ROWS} and {other / ROWS}: have different {key}, so their orders say nothing")
    a, b = ({name: np.array(rows) for name, rows in read["values"].items()} for read in (first, second))
    shared = [name for name in a if name in b]
    if len(shared) < THREE:
        raise UserError(f"{one / ROWS} and {other / ROWS}: share {len(shared)} variants; an order needs {THREE}")
    tau = rank_agreement(a, b)
    moved = places_gained(order_of({n: a[n] for n in shared}), order_of({n: b[n] for n in shared}))
    agree = "hardly" if tau.high < AGREE else "largely" if tau.low > AGREE else "undecided"
    return {
        "tau": tau.value, "low": tau.low, "high": tau.high, "variants": len(shared),
        "moved": [{"variant": name, "places": by} for name, by in moved.items()], "agree": agree,
        "gained": _gains(a, b, shared),
    }  # fmt: skip


def read_rows(folder: Path) -> dict[str, Any]:
    """Return what the `rows.json` of a study holds.

    Raises:
        UserError: it is missing.
    """
    file = folder / ROWS
    if not file.is_file():
        raise UserError(f"{file}: is missing; `python -m examples.studies numbers {folder}` writes it")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _gains(before: dict[str, Values], after: dict[str, Values], shared: list[str]) -> list[Numbers]:
    """Return by how much each variant's difference from dpo grew, most first; p after Holm."""
    if START not in shared:
        return []
    names = [name for name in shared if name != START]
    grew = [seeded_difference(after[n] - after[START], before[n] - before[START]) for n in names]
    ps = intervals.holm([g.p for g in grew])
    rows = [
        {
            "variant": name, "by": POINTS * g.value, "low": POINTS * g.low, "high": POINTS * g.high, "p_holm": p,
            "outcome": "undecided" if p > ALPHA else "gained" if g.value > 0 else "lost",
        }
        for name, g, p in zip(names, grew, ps, strict=True)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -float(str(row["by"])))
