"""Select variants of runs to compare, name them, and read their values row by row."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.boards.judged_files import all_measured, metrics_of, rebuilt
from prefzoo.evals.boards.run_files import RunFiles, VariantFiles, read_run
from prefzoo.evals.metrics.estimates import rows_or_none
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, Metrics, all_metrics, source_metrics
from prefzoo.evals.stats.intervals import Values
from prefzoo.runtime.run_folders import BASE, RESOLVED


@dataclass(frozen=True)
class Entry:
    """One variant, or a base.

    Attributes:
        label: unique name in the comparison: `VARIANT`, or `RUN/VARIANT` if there are several runs.
        run: content of the run's folder.
        files: content of the variant's folder; of several seeds, that of the first, under the variant's name.
        long: the entry's rows of the long table, by metric.
        rows: (n,) values by metric, one per prompt, pair or document, in the run's order; NaN where one is missing. Of
            several seeds, the mean.
        metrics: metrics of the run, by name.
        members: an entry for each seed; empty if there is only one.
    """

    label: str
    run: RunFiles
    files: VariantFiles
    long: pd.DataFrame
    rows: Mapping[str, Values]
    metrics: Metrics
    members: tuple[Entry, ...] = ()

    @property
    def seeds(self) -> tuple[Entry, ...]:
        """The entry of each seed; the entry itself if there is only one."""
        return self.members or (self,)

    def grid(self, metric: str) -> Values:
        """Return the (seeds, n) values of a metric."""
        return np.stack([seed.rows[metric] for seed in self.seeds])

    @property
    def is_base(self) -> bool:
        """Whether it is the untrained model."""
        return self.files.name == BASE

    def value(self, metric: str) -> float:
        """Return the value of a metric; NaN if it was not measured."""
        return float(self.long.loc[metric, "value"]) if metric in self.long.index else float("nan")  # type: ignore[arg-type]


def select(paths: Sequence[Path], also: Path | None = None, *, by_seed: bool = True) -> list[Entry]:
    """Return an entry for each variant that the paths name. Bases of several runs that agree become one entry.

    Args:
        paths: a run's folder to select all of its variants, or `RUN/variant` to select one.
        also: path of one more variant, such as the baseline; ignored if it is not a variant's folder.
        by_seed: whether each seed of a variant is an entry of its own; else all seeds together are one entry.

    Returns:
        The entries, in the order of the paths.

    Raises:
        UserError: a path is neither a run's nor a variant's folder, or a file in it cannot be read.
    """
    places = [_place(Path(path)) for path in paths]
    if also is not None and not _is_run(also) and _is_run(also.parent):
        places.append(_place(also))
    runs = {folder: read_run(folder) for folder in dict.fromkeys(folder for folder, _ in places)}
    asked: dict[tuple[Path, str], None] = {}
    for folder, name in places:
        everything = runs[folder].variants if by_seed else _with_seeds_together(runs[folder])
        asked.update(dict.fromkeys((folder, n) for n in ([name] if name else everything)))
    titles = _titles(list(runs))
    entries = {folder: _entries(run, titles[folder]) for folder, run in runs.items()}
    return _one_base([entries[folder][name] for folder, name in asked])


def seeds_of(run: RunFiles) -> dict[str, list[str]]:
    """Return the folder names of the seeds of each variant that has several, by the variant's name."""
    several: dict[str, list[str]] = {}
    for name in run.variants:
        if name in run.finals:
            several.setdefault(run.finals[name], []).append(name)
    return {variant: names for variant, names in several.items() if len(names) > 1}


def _with_seeds_together(run: RunFiles) -> list[str]:
    """Return the names of a run's variants, without repeats for seeds."""
    variant_of = {name: variant for variant, names in seeds_of(run).items() for name in names}
    return list(dict.fromkeys(variant_of.get(name, name) for name in run.variants))


def _is_run(path: Path) -> bool:
    return (path / RESOLVED).is_file()


def _place(path: Path) -> tuple[Path, str]:
    """Split a path into the run's folder and the variant's name, which is empty for a whole run."""
    if _is_run(path):
        return path, ""
    if not _is_run(path.parent):
        raise UserError(f"{path}: neither a run's folder nor a variant's; name a folder that prefzoo run wrote")
    run = read_run(path.parent)
    if path.name not in run.variants and path.name not in seeds_of(run):
        known = [*_with_seeds_together(run), *run.variants]
        known = list(dict.fromkeys(known))
        hint = did_you_mean(path.name, known) or f"; it has {', '.join(known)}"
        raise UserError(f"{path}: {path.parent} has no variant {path.name!r}{hint}")
    return path.parent, path.name


def _titles(folders: list[Path]) -> dict[Path, str]:
    """Name each run by as many last parts of its path as make all names unique; a single run has an empty name."""
    if len(folders) == 1:
        return {folders[0]: ""}
    whole = {folder: Path(os.path.abspath(folder)).parts for folder in folders}
    depth = 1
    while len({parts[-depth:] for parts in whole.values()}) < len(folders) and depth < max(map(len, whole.values())):
        depth += 1
    return {folder: "/".join(parts[-depth:]) for folder, parts in whole.items()}


def _long(run: RunFiles) -> pd.DataFrame:
    """Return the run's long table; if the run has not written it yet, build it from the measurements.

    Costs of training are left out, since they have a table of their own.
    """
    long = run.long
    if long.empty:
        models = all_measured(run)
        long = rebuilt(run).long if BASE in models and len(models) > 1 else pd.DataFrame({"variant": [], "metric": []})
    costs = [m.name for m in all_metrics() if m.measured_on == "training"]
    return long[~long.metric.isin(costs)]


def _entries(run: RunFiles, title: str) -> dict[str, Entry]:
    """Return an entry for each folder of a run, by its name, and for each variant with several seeds, by its name."""
    long, models, metrics = _long(run), all_measured(run), metrics_of([run])
    entries = {}
    for name, files in run.variants.items():
        mine = long[long.variant == name].set_index("metric")
        label = f"{title}/{name}" if title else name
        entries[name] = Entry(label, run, files, mine, _rows(files, models, mine), metrics)
    for variant, names in seeds_of(run).items():
        mine = long[long.variant == variant].set_index("metric")
        label = f"{title}/{variant}" if title else variant
        entries[variant] = _together(label, mine, [entries[name] for name in names])
    return entries


def _together(label: str, long: pd.DataFrame, seeds: Sequence[Entry]) -> Entry:
    """Combine the seeds of a variant into one entry.

    Args:
        label: name of the new entry.
        long: the variant's rows of the long table, over all seeds.
        seeds: an entry for each seed.
    """
    first = seeds[0]
    folder = first.files.folder.with_name(label.rpartition("/")[2])
    files = replace(first.files, name=folder.name, folder=folder)
    alike = [m for m in first.rows if all(m in e.rows and e.rows[m].shape == first.rows[m].shape for e in seeds)]
    rows = {metric: np.mean([e.rows[metric] for e in seeds], axis=0) for metric in alike if metric in long.index}
    return Entry(label, first.run, files, long, rows, first.metrics, tuple(seeds))


def _rows(files: VariantFiles, models: Mapping[str, Measured], long: pd.DataFrame) -> dict[str, Values]:
    """Return the (n,) values of every metric that has one value per prompt, pair or document."""
    if files.name not in models:
        return {}
    is_base = files.name == BASE
    rows = _of_base(models) if is_base else _of_variant(models[files.name], models.get(BASE))
    rows |= {suite: np.array(scores) for suite, scores in _documents(files.folder).items()}
    return {metric: values for metric, values in rows.items() if len(values) and _known(long, metric, is_base)}


def _known(long: pd.DataFrame, metric: str, is_base: bool) -> bool:
    """Return whether the long table has a number for the metric; it may leave out those of the base."""
    if metric not in long.index:
        return is_base
    return bool(np.isfinite(long.loc[metric, "value"]))  # type: ignore[arg-type]


def _of_variant(measured: Measured, base: Measured | None) -> dict[str, Values]:
    known = {metric.name: rows_or_none(metric, measured, base) for metric in _metrics([measured])}
    return {name: values for name, values in known.items() if values is not None}


def _metrics(models: Iterable[Measured]) -> list[Metric]:
    """Return all registered metrics, and those of the models' sources; benchmarks are not among them."""
    return [*all_metrics(), *source_metrics(models).values()]


def _of_base(models: Mapping[str, Measured]) -> dict[str, Values]:
    """Return the base's rows; for a metric relative to the base, each row has the base's value against itself."""
    base = models[BASE]
    rows = _of_variant(base, None)
    for metric in _metrics(models.values()):
        if metric.base_value is not None:
            others = [rows_or_none(metric, m, base) for name, m in models.items() if name != BASE]
            n = max((len(values) for values in others if values is not None), default=0)
            rows[metric.name] = np.full(n, metric.base_value)
    return rows


def _documents(folder: Path) -> dict[str, list[float]]:
    """Return the score of every document of each benchmark, in the order of their ids."""
    scores = {}
    for path in sorted((folder / "benchmarks").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        scores[path.stem] = [float(row["score"]) for row in sorted(rows, key=lambda row: str(row["doc_id"]))]
    return scores


def _one_base(entries: list[Entry]) -> list[Entry]:
    """Merge the bases of several runs if their answers and numbers are the same; the one with most numbers stays."""
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
    """Return whether two bases are the same model and agree in all answers and benchmarks that both have."""
    a, b = one.files.measured, other.files.measured
    if one.run.recipe["model"] != other.run.recipe["model"] or a is None or b is None:
        return False
    if a.answers and b.answers and (a.answers != b.answers or a.scores != b.scores):
        return False
    shared = a.benchmarks.keys() & b.benchmarks.keys()
    return all(a.benchmarks[s]["value"] == b.benchmarks[s]["value"] for s in shared)
