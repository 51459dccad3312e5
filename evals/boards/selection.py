"""Which variants of which runs are looked at together, under what names, and their values prompt by prompt."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.boards.leaderboard import BASE, HALF, build
from prefzoo.evals.boards.run_files import RESOLVED, RunFiles, VariantFiles, read_run
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Values

COST_ROW = "train_seconds"  # stands among the costs


@dataclass(frozen=True)
class Entry:
    """One variant, or a base.

    Attributes:
        label: its name beside the others; the variant's, with its run's in front where there are several runs.
        long: its rows of the long table, by metric.
        units: metric -> (n,) one value per prompt, pair or document, in the run's order; NaN where it is missing.
    """

    label: str
    run: RunFiles
    files: VariantFiles
    long: pd.DataFrame
    units: Mapping[str, Values]

    @property
    def is_base(self) -> bool:
        return self.files.name == BASE

    def value(self, metric: str) -> float:
        """NaN where it was not measured."""
        return float(self.long.loc[metric, "value"]) if metric in self.long.index else float("nan")  # type: ignore[arg-type]


def select(paths: Sequence[Path], also: Path | None = None) -> list[Entry]:
    """The variants that the paths name: all of a run's folder, or one by `RUN/variant`; bases that agree become one.

    Args:
        also: one more, such as the baseline; nothing where it is no such path.

    Raises:
        UserError: a path is neither, or a file in it cannot be read.
    """
    places = [_place(Path(path)) for path in paths]
    if also is not None and not _is_run(also) and _is_run(also.parent):
        places.append(_place(also))
    runs = {folder: read_run(folder) for folder in dict.fromkeys(folder for folder, _ in places)}
    asked: dict[tuple[Path, str], None] = {}
    for folder, name in places:
        asked.update(dict.fromkeys((folder, n) for n in ([name] if name else runs[folder].variants)))
    titles = _titles(list(runs))
    long = {folder: _long(run) for folder, run in runs.items()}
    made = [
        _entry(f"{titles[folder]}/{name}" if titles[folder] else name, runs[folder], name, long[folder])
        for folder, name in asked
    ]
    return _one_base(made)


def _is_run(path: Path) -> bool:
    return (path / RESOLVED).is_file()


def _place(path: Path) -> tuple[Path, str]:
    """The run's folder, and the variant's name where one is named."""
    if _is_run(path):
        return path, ""
    if not _is_run(path.parent):
        raise UserError(f"{path}: neither a run's folder nor a variant's in one; name what prefzoo run wrote")
    run = read_run(path.parent)
    if path.name not in run.variants:
        known = list(run.variants)
        hint = did_you_mean(path.name, known) or f"; it has {', '.join(known)}"
        raise UserError(f"{path}: {path.parent} has no variant {path.name!r}{hint}")
    return path.parent, path.name


def _titles(folders: list[Path]) -> dict[Path, str]:
    """A run's folder by its last parts, as many as tell all of them apart; nothing for a single run."""
    if len(folders) == 1:
        return {folders[0]: ""}
    whole = {folder: Path(os.path.abspath(folder)).parts for folder in folders}
    depth = 1
    while len({parts[-depth:] for parts in whole.values()}) < len(folders) and depth < max(map(len, whole.values())):
        depth += 1
    return {folder: "/".join(parts[-depth:]) for folder, parts in whole.items()}


def _long(run: RunFiles) -> pd.DataFrame:
    """The long table as written; made of what was measured where a run has not come to writing it."""
    if not run.long.empty:
        return run.long
    found = {name: v.measured for name, v in run.variants.items() if v.measured is not None}
    costs = {name: v.result.costs for name, v in run.variants.items() if v.result is not None}
    return build(found, costs).long if BASE in found and len(found) > 1 else pd.DataFrame({"variant": [], "metric": []})


def _entry(label: str, run: RunFiles, name: str, long: pd.DataFrame) -> Entry:
    mine = long[(long.variant == name) & (long.metric != COST_ROW)].set_index("metric")
    return Entry(label, run, run.variants[name], mine, _units(run, name, mine))


def _units(run: RunFiles, name: str, long: pd.DataFrame) -> dict[str, Values]:
    """What is known value by value. The base wins half against itself, and its margins are nought."""
    found: dict[str, Values] = {}
    files = run.variants[name]
    measured = files.measured
    if measured is None:
        return found
    margins = np.array(measured.margins, dtype=float)
    if name == BASE:
        sizes = [len(v.measured.margins) for v in run.variants.values() if v.measured is not None]
        margins = np.zeros(max(sizes))
        won = np.full(len(measured.answers), HALF)
    else:
        won = _won(run, files)
    lists = {
        "win_rate": won, "score": measured.scores, "preference_accuracy": HALF + HALF * np.sign(margins),
        "preference_margin": margins, "words": measured.words, "repetition": measured.repetition,
        "finished": measured.finished,
    }  # fmt: skip
    for metric, values in {**lists, **_documents(files.folder)}.items():
        known = metric in long.index and np.isfinite(long.loc[metric, "value"])  # type: ignore[arg-type]
        if len(values) and (known or (name == BASE and metric not in long.index)):
            found[metric] = np.array(values, dtype=float)
    return found


def _won(run: RunFiles, files: VariantFiles) -> Values:
    """Of every prompt 0 to 1: the judge's word, else the scores'; empty where nothing was judged."""
    if files.annotations:
        said = [row.get("preference") for row in files.annotations]
        return np.array([np.nan if p is None else p - 1 for p in said])
    base = run.variants[BASE].measured if BASE in run.variants else None
    mine = files.measured
    if mine is None or base is None or not mine.scores or len(mine.scores) != len(base.scores):
        return np.array([])
    return intervals.wins(np.array(mine.scores), np.array(base.scores))


def _documents(folder: Path) -> dict[str, list[float]]:
    """The score of every document of a benchmark, in the order of their ids."""
    found = {}
    for path in sorted((folder / "benchmarks").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        found[path.stem] = [float(row["score"]) for row in sorted(rows, key=lambda row: str(row["doc_id"]))]
    return found


def _one_base(entries: list[Entry]) -> list[Entry]:
    """Bases of several runs whose answers and numbers are the same stand once, with what each run measured of it."""
    kept: list[Entry] = []
    for entry in entries:
        same = next((i for i, e in enumerate(kept) if e.is_base and entry.is_base and _same_base(e, entry)), None)
        if same is None:
            kept.append(entry)
        elif len(entry.long) > len(kept[same].long):
            kept[same] = replace(entry, label=kept[same].label)
    lone = [e for e in kept if e.is_base]
    return [replace(e, label=BASE) if len(lone) == 1 and e.is_base else e for e in kept]


def _same_base(one: Entry, other: Entry) -> bool:
    """Nothing that both measured differs."""
    a, b = one.files.measured, other.files.measured
    if one.run.recipe["model"] != other.run.recipe["model"] or a is None or b is None:
        return False
    if a.answers and b.answers and (a.answers != b.answers or a.scores != b.scores):
        return False
    shared = a.benchmarks.keys() & b.benchmarks.keys()
    return all(a.benchmarks[s]["value"] == b.benchmarks[s]["value"] for s in shared)
