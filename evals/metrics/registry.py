"""The registry of metrics: everything that tables, tests of significance and pages know about a number, in one place.

A metric is one file that calls `register`; every file in `evals/metrics/builtin/` is loaded by itself. Installed
packages add theirs by the entry point group `prefzoo.metrics`. A benchmark's metric is made from its results.
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

DELTA = "_delta"  # ends the name of a benchmark's difference from the base
BY_SOURCE = 9  # the position of accuracies by source
LAST = 1000  # the position of metrics that do not ask for one; benchmarks come next
BENCHMARKS, COSTS = 2000, 3000
ALPHABET = set("abcdefghijklmnopqrstuvwxyz0123456789_")

MeasuredOn = Literal["prompts", "held-out pairs", "benchmark", "training", "unknown"]
RowsFunction = Callable[[Measured, Measured | None], Values | None]
Estimator = Callable[[Measured, Measured | None], Estimate | None]
PooledEstimator = Callable[[Mapping[str, Measured], str], Mapping[str, "Noted"]]


@dataclass(frozen=True)
class Noted:
    """An estimate, and what a reader must know about it."""

    estimate: Estimate
    note: str = ""


@dataclass(frozen=True)
class Metric:
    """One number that describes a model, and all facts about it.

    Attributes:
        name: its name in tables and files, lower case with underscores.
        label: the same in words, for pages and charts.
        measured_on: what its rows are.
        unit: like "nats per token"; empty for shares and for plain counts.
        higher_is_better: None where neither direction is better.
        digits: decimals shown (of percent, where `percent`).
        percent: whether it is a share in [0, 1], shown in percent, and its differences in points.
        needs_baseline: whether it is measured against the baseline, whose name the long table then carries.
        judged: whether a judge had a part in it; such numbers are compared under one judge only.
        diagnostic: whether it explains a rank (second table of the leaderboard) rather than being a result.
        description: what it is in a few words, for the notes below the tables.
        phrase: what a model that leads by it has, like "a win rate against the base"; made from the label if empty.
        base_value: what each row of the baseline is worth against itself (one half of a win); None if it has no such
            value, or has rows of its own.
        position: of its column; lower comes first.
        rows: `(measured, base) -> (n,)` one value per prompt or pair, in order, NaN where one is missing; None if the
            model has none. `base` is None for the baseline itself. With rows a metric has an interval, paired
            differences, and means over seeds.
        estimator: `(measured, base) -> Estimate` for what is not the mean of the rows, or needs another interval.
        pooled: `(models by name, the baseline's name) -> estimates by name` for what depends on the other models.
        from_logprobs: `(policy, reference) -> (B,)` what to measure on each held-out pair; kept in `Measured.pairs`,
            and the rows unless `rows` is given.
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
        """What differences are in: points of a hundred for shares, else the metric's own unit."""
        return "points" if self.percent else self.unit

    @property
    def row_name(self) -> str:
        """What a row is, in the plural."""
        return {"held-out pairs": "pairs", "benchmark": "documents"}.get(self.measured_on, "prompts")

    def scaled(self, value: float) -> float:
        """Return a value in the unit shown: percent for shares."""
        return 100 * value if self.percent else value

    def text(self, value: float, sign: str = "") -> str:
        """Return a value as text in the unit shown, without the unit; `sign="+"` shows a plus, too."""
        return f"{self.scaled(value):{sign}z.{self.digits}f}"

    def values(self, measured: Measured, base: Measured | None) -> Values | None:
        """Return the (n,) rows; None if the model has none. `base` is None for the baseline itself."""
        if self.rows is not None:
            values = self.rows(measured, base)
            if values is not None and values.ndim != 1:
                raise ValueError(f"rows of shape {values.shape}; return one value per prompt or pair")
            return values
        own = measured.pairs.get(self.name)
        return None if own is None else np.array(own, dtype=float)

    def estimate(self, measured: Measured, base: Measured | None) -> Estimate | None:
        """Return the value with its 95% interval; None if the model has none. `base` is as for `values`."""
        if self.estimator is not None:
            return self.estimator(measured, base)
        values = self.values(measured, base)
        return None if values is None else intervals.mean(values)


_registry: dict[str, Metric] = {}
_loaded: set[str] = set()


def register(metric: Metric) -> Metric:
    """Add a metric to the registry, and return it.

    Raises:
        ValueError: the name is taken, or is not made of lower case letters, digits and underscores.
    """
    name = metric.name
    if not name or set(name) - ALPHABET or name.endswith(DELTA):
        raise ValueError(
            f"metric {name!r}: a name has lower case letters, digits and underscores, and does not end in {DELTA}"
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
        return "it is no Metric"
    register(metric)
    return None


OWN_UNIT = {  # lm-eval's metrics that are no shares, with their unit and digits
    "bits_per_byte": ("bits per byte", 3), "byte_perplexity": ("perplexity per byte", 3),
    "word_perplexity": ("perplexity per word", 2), "perplexity": ("perplexity", 2), "mcc": ("correlation", 3),
    "likelihood_diff": ("nats", 2), "bleu": ("BLEU points", 1), "chrf": ("chrF points", 1), "ter": ("TER points", 1),
    "brier_score": ("Brier score", 3),
}  # fmt: skip


MEANINGS = {
    "acc": "share of documents answered right", "acc_norm": "share answered right, options compared per byte",
    "exact_match": "share whose answer is exactly the right one", "f1": "overlap of words with the right answer",
    "bits_per_byte": "how badly the text is predicted, in bits for each byte of it",
    "byte_perplexity": "how badly the text is predicted, as a perplexity for each byte",
    "word_perplexity": "how badly the text is predicted, as a perplexity for each word",
    "perplexity": "how badly the text is predicted, as a perplexity",
}  # fmt: skip


def benchmark_metric(name: str, results: Sequence[Mapping[str, object]]) -> Metric:
    """Make the metric of a benchmark.

    Args:
        name: the task's.
        results: one per model, as `prefzoo.evals.suites.benchmarks.Benchmark` has it.

    Returns:
        With the unit of lm-eval's metric. One that is not known here is a share if no model is above 1.
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
    """Make the metric of one source of the held-out pairs: accuracy on its pairs alone."""

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
    """Return the metrics of all sources that the held-out pairs of some models have, by name."""
    names = dict.fromkeys(name for measured in models for name in measured.sources)
    return {metric.name: metric for metric in map(source_metric, names)}


@dataclass(frozen=True)
class Metrics:
    """The registered metrics, and the benchmarks and sources of some models, by the names of the long table."""

    of_run: Mapping[str, Metric] = field(default_factory=dict)

    @classmethod
    def of(cls, models: Iterable[Measured]) -> Metrics:
        """Return all metrics that these models may have."""
        models = list(models)
        results: dict[str, list[Mapping[str, object]]] = {}
        for measured in models:
            for name, result in measured.benchmarks.items():
                results.setdefault(name, []).append(result)
        return cls(
            source_metrics(models) | {name: benchmark_metric(name, several) for name, several in results.items()}
        )

    def __getitem__(self, name: str) -> Metric:
        """Return the metric of that name, of a difference from the base (`NAME_delta`) too.

        A name that nothing here knows (of a package that is not installed) is a plain number without direction.
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
        """Return the names once each, in the order of the tables' columns: metrics, benchmarks, costs."""
        return sorted(dict.fromkeys(names), key=lambda name: self[name].position)
