"""The metrics of all models of a run, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping

from prefzoo.evals.metrics.benchmark_deltas import benchmark_estimate
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Noted, all_metrics


def estimates(models: Mapping[str, Measured], base: str) -> dict[str, dict[str, Noted]]:
    """Estimate every registered metric and every benchmark of every model.

    Args:
        models: what was measured, by the model's name.
        base: the baseline's name; it has no number of what is measured against itself.

    Returns:
        For each model its estimates by metric, in the order of the tables' columns.
    """
    of_base = models.get(base)
    estimated: dict[str, dict[str, Noted]] = {name: {} for name in models}
    for metric in all_metrics():
        pooled = metric.pooled(models, base) if metric.pooled is not None else {}
        for name, measured in models.items():
            one = metric.estimate(measured, of_base if name != base else None)
            if name in pooled:
                estimated[name][metric.name] = pooled[name]
            elif one is not None:
                estimated[name][metric.name] = Noted(one)
    for name, measured in models.items():
        estimated[name] |= {task: Noted(benchmark_estimate(result)) for task, result in measured.benchmarks.items()}
    return estimated
