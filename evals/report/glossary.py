"""Define each metric of the page: its meaning, its unit, and whether more or less is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prefzoo.evals.metrics.registry import Metric, Metrics

DIRECTIONS = {True: "more is better", False: "less is better", None: "neither more nor less is better"}
MEASURED_ON = {
    "prompts": "answers to prompts", "held-out pairs": "held-out pairs", "benchmark": "a benchmark's documents",
    "training": "the training", "unknown": "",
}  # fmt: skip


@dataclass(frozen=True)
class Definition:
    """A metric in words.

    Attributes:
        name: its name in the files of the run.
        label: the heading of its column.
        meaning: its definition.
        unit: the unit of its values.
        direction: whether more or less is better.
        measured_on: the kind of rows that it averages over; empty if unknown.
    """

    name: str
    label: str
    meaning: str
    unit: str
    direction: str
    measured_on: str

    @property
    def tooltip(self) -> str:
        """Meaning, unit and direction in one line."""
        return f"{self.meaning} Unit: {self.unit}; {self.direction}."


def definition(metric: Metric) -> Definition:
    """Return the definition of a metric."""
    meaning = metric.description or "Its package does not describe it"
    unit = "percent, differences in points" if metric.percent else metric.unit or "a plain number"
    return Definition(
        metric.name, metric.label, f"{meaning[:1].upper()}{meaning[1:]}.", unit, DIRECTIONS[metric.higher_is_better],
        MEASURED_ON[metric.measured_on],
    )  # fmt: skip


def glossary(names: Iterable[str], metrics: Metrics) -> list[Definition]:
    """Return the definitions of metrics, in the order given."""
    return [definition(metrics[name]) for name in names]
