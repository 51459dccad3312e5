"""The registry of metrics: names, units, directions and estimators for tables, significance tests and the report.

A metric is one file that calls `register`; every file in `evals/metrics/builtin/` is imported automatically. Installed
packages add metrics with the entry point group `prefzoo.metrics`. The metric of a benchmark is derived from its
results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import EntryPoint
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Estimate, Values
from prefzoo.runtime.plugins import load_entry_points
from prefzoo.types import LogProbs, VocabLogProbs

if TYPE_CHECKING:
    from torch import Tensor

DELTA = "_delta"  # suffix of the name of a benchmark's difference from the base
BY_SOURCE = 9  # column position of the accuracies by source
LAST = 1000  # default column position; benchmarks come next
BENCHMARKS, COSTS = 2000, 3000
ALPHABET = set("abcdefghijklmnopqrstuvwxyz0123456789_")

MeasuredOn = Literal["prompts", "held-out pairs", "benchmark", "training", "unknown"]
RowsFunction = Callable[[Measured, Measured | None], Values | None]
Estimator = Callable[[Measured, Measured | None], Estimate | None]
PooledEstimator = Callable[[Mapping[str, Measured], str], Mapping[str, "Noted"]]


@dataclass(frozen=True)
class Noted:
    """An estimate with a note for the reader."""

    estimate: Estimate
    note: str = ""


@dataclass(frozen=True)
class Metric:
    """One number that describes a model: its name, unit and direction, and the functions that compute it.

    Attributes:
        name: column name in tables and files, in lower case with underscores.
        label: name in words, for pages and charts.
        measured_on: kind of data that the metric is measured on.
        unit: unit, like "nats per token"; empty for shares and for plain counts.
        higher_is_better: direction; None if neither direction is better.
        digits: decimals shown, of the percentage if `percent` is True.
        percent: whether the metric is a share in [0, 1]. Shares are shown in percent, their differences in points.
        needs_baseline: whether the metric compares a model with the baseline; if so, the long table names the baseline.
        judged: whether the metric uses a judge's verdicts; values from different judges are not compared.
        diagnostic: whether the metric explains a rank (second table of the leaderboard) rather than being a result.
        description: meaning in a few words, for the notes below the tables.
        phrase: noun phrase for the leader's value, like "a win rate against the base"; derived from the label if empty.
        base_value: value of the baseline against itself on every row, like one half for a win rate; None if there is no
            such value, or if the baseline has rows of its own.
        position: sort key of the column; lower comes first.
        rows: `(measured, base) -> (n,)`, one value per prompt or pair, in order, NaN where one is missing; None if the
            model has none. `base` is None for the baseline itself. A metric with rows gets an interval, paired
            differences, and means over seeds.
        estimator: `(measured, base) -> Estimate`, for a metric that is not the mean of its rows, or whose interval is
            not that of a mean.
        pooled: `(models by name, the baseline's name) -> estimates by name`, for a metric of a model that depends on
            the other models.
        from_logprobs: `(policy, reference) -> (B,)`, one value per held-out pair. The values are stored in
            `Measured.pairs`, and are the metric's rows unless `rows` is given.
    """

    name: str
    label: str
    measured_on: MeasuredOn
    unit: str = ""
    higher_is_better: bool | None = None
    digits: int = 1
    percent: bool = False
    needs_baseline: bool = False
    judged: bool = False
    diagnostic: bool = False
    description: str = ""
    phrase: str = ""
    base_value: float | None = None
    position: float = LAST
    rows: RowsFunction | None = None
    estimator: Estimator | None = None
    pooled: PooledEstimator | None = None
    from_logprobs: Callable[[VocabLogProbs, LogProbs], Tensor] | None = None

    @property
    def title(self) -> str:
        """The label with its unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def difference_unit(self) -> str:
        """Unit of differences: `points` (percentage points) for shares, else the metric's own unit."""
        return "points" if self.percent else self.unit

    @property
    def row_name(self) -> str:
        """Plural noun for the rows: `pairs`, `documents` or `prompts`."""
        return {"held-out pairs": "pairs", "benchmark": "documents"}.get(self.measured_on, "prompts")

    def scaled(self, value: float) -> float:
        """Return a value in the unit in which it is shown: percent for shares."""
        return 100 * value if self.percent else value

    def text(self, value: float, sign: str = "") -> str:
        """Format a value in the unit in which it is shown, without naming the unit; `sign="+"` also shows a plus."""
        return f"{self.scaled(value):{sign}z.{self.digits}f}"

    def values(self, measured: Measured, base: Measured | None) -> Values | None:
        """Return the (n,) rows, or None if the model has none. `base` is None for the baseline itself."""
        if self.rows is not None:
            values = self.rows(measured, base)
            if values is not None and values.ndim != 1:
                raise ValueError(f"rows of shape {values.shape}; return one value per prompt or pair")
            return values
        own = measured.pairs.get(self.name)
        return None if own is None else np.array(own, dtype=float)

    def estimate(self, measured: Measured, base: Measured | None) -> Estimate | None:
        """Return the value with its 95% interval, or None if the model has none. `base` is as in `values`."""
        if self.estimator is not None:
            return self.estimator(measured, base)
        values = self.values(measured, base)
        return None if values is None else intervals.mean(values)


_registry: dict[str, Metric] = {}
_loaded: set[str] = set()


def register(metric: Metric) -> Metric:
    """Add a metric to the registry, and return it.

    Raises:
        ValueError: the name is taken, ends in `_delta`, or has characters other than lower case letters, digits and
            underscores.
    """
    name = metric.name
    if not name or set(name) - ALPHABET or name.endswith(DELTA):
        raise ValueError(
            f"metric {name!r}: use only lower case letters, digits and underscores, and do not end the name in {DELTA}"
        )
    if _registry.get(name, metric) != metric:
        raise ValueError(f"metric {name!r}: the name is taken by {_registry[name].label!r}; choose another")
    _registry[name] = metric
    return metric


def all_metrics() -> list[Metric]:
    """Return every registered metric, in the order of the tables' columns."""
    _load()
    return sorted(_registry.values(), key=lambda m: m.position)


def _load() -> None:
    """Import the built-in metrics and those of installed packages, once."""
    if not _loaded:
        _loaded.add("all")
        builtin = import_module("prefzoo.evals.metrics.builtin")
        for module in iter_modules(builtin.__path__):
            import_module(f"{builtin.__name__}.{module.name}")
        load_entry_points("prefzoo.metrics", _offered)


def _offered(_: EntryPoint, metric: Any) -> str | None:
    if not isinstance(metric, Metric):
        return "it is not a Metric"
    register(metric)
    return None


OWN_UNIT = {  # metrics of lm-eval that are not shares, with their unit and digits
    "bits_per_byte": ("bits per byte", 3), "byte_perplexity": ("perplexity per byte", 3),
    "word_perplexity": ("perplexity per word", 2), "perplexity": ("perplexity", 2), "mcc": ("correlation", 3),
    "likelihood_diff": ("nats", 2), "bleu": ("BLEU points", 1), "chrf": ("chrF points", 1), "ter": ("TER points", 1),
    "brier_score": ("Brier score", 3),
}  # fmt: skip


MEANINGS = {
    "acc": "share of documents answered correctly",
    "acc_norm": "share of documents answered correctly, by the log-likelihood of each option per byte",
    "exact_match": "share of answers that equal the correct one", "f1": "overlap of words with the correct answer",
    "bits_per_byte": "negative log-likelihood of the text, in bits per byte",
    "byte_perplexity": "perplexity of the text per byte", "word_perplexity": "perplexity of the text per word",
    "perplexity": "perplexity of the text",
}  # fmt: skip


def benchmark_metric(name: str, results: Sequence[Mapping[str, object]]) -> Metric:
    """Make the metric of a benchmark.

    Args:
        name: name of the task.
        results: one result per model, with the fields of `prefzoo.evals.suites.benchmarks.Benchmark`.

    Returns:
        The metric, in the unit of lm-eval's metric. A metric without an entry in `OWN_UNIT` counts as a share if no
        model's value is above 1.
    """
    first: Mapping[str, object] = next((r for r in results if not r.get("reason")), {})
    metric, direction = str(first.get("metric") or "acc"), first.get("higher_is_better", True)
    up = None if direction is None else bool(direction)
    shown = name.replace("_", " ")
    about = f"benchmark {name}: {MEANINGS.get(metric, f'lm-eval metric {metric}')}, mean over documents"
    values = [abs(v) for r in results if isinstance(v := r.get("value"), int | float)]
    if metric in OWN_UNIT or any(v > 1 for v in values):
        unit, digits = OWN_UNIT.get(metric, (metric.replace("_", " "), 3))
        return Metric(name, shown, "benchmark", unit, up, digits, description=about, position=BENCHMARKS)
    return Metric(name, shown, "benchmark", higher_is_better=up, percent=True, description=about, position=BENCHMARKS)


def source_metric(name: str) -> Metric:
    """Make the metric for one source of held-out pairs: the accuracy on the pairs of that source."""

    def rows(measured: Measured, base: Measured | None) -> Values | None:
        if name not in measured.sources or base is None:
            return None
        own = np.array(measured.sources) == name
        return np.where(own, intervals.correct(np.array(measured.margins, dtype=float)), np.nan)

    return Metric(
        f"accuracy_on_{name}", f"accuracy on {name}", "held-out pairs", higher_is_better=True, percent=True,
        needs_baseline=True, diagnostic=True, description=f"accuracy on the pairs of {name}",
        base_value=0.5, position=BY_SOURCE, rows=rows,
    )  # fmt: skip


def source_metrics(models: Iterable[Measured]) -> dict[str, Metric]:
    """Return an accuracy metric for each source of the models' held-out pairs, by the metric's name."""
    names = dict.fromkeys(name for measured in models for name in measured.sources)
    return {metric.name: metric for metric in map(source_metric, names)}


@dataclass(frozen=True)
class Metrics:
    """All metrics by their names in the long table: the registered ones, and those of benchmarks and sources.

    Attributes:
        of_run: metrics of the benchmarks and sources of some models, by name.
    """

    of_run: Mapping[str, Metric] = field(default_factory=dict)

    @classmethod
    def of(cls, models: Iterable[Measured]) -> Metrics:
        """Collect the metrics of the models' benchmarks and sources, beside the registered ones."""
        models = list(models)
        results: dict[str, list[Mapping[str, object]]] = {}
        for measured in models:
            for name, result in measured.benchmarks.items():
                results.setdefault(name, []).append(result)
        return cls(
            source_metrics(models) | {name: benchmark_metric(name, several) for name, several in results.items()}
        )

    def __getitem__(self, name: str) -> Metric:
        """Return the metric with a name, which may also be a difference from the base (`NAME_delta`).

        An unknown name, like that of a package that is not installed, gives a plain number without a direction.
        """
        _load()
        if name in _registry:
            return _registry[name]
        if name in self.of_run:
            return self.of_run[name]
        own = name.removesuffix(DELTA)
        if own != name:
            of = self[own]
            label = f"{of.label}, difference from the base"
            return replace(of, name=name, label=label, diagnostic=True, needs_baseline=True)
        return Metric(name, name.replace("_", " "), "unknown", digits=3, position=BENCHMARKS)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Return the names without repeats, in the order of the tables' columns: metrics, benchmarks, costs."""
        return sorted(dict.fromkeys(names), key=lambda name: self[name].position)
