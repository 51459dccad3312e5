"""The metrics of all models of a run, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping

from prefzoo.evals.metrics.benchmark_deltas import benchmark_estimate
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, Noted, all_metrics, source_metrics
from prefzoo.evals.stats.intervals import Values
from prefzoo.runtime.plugins import RAISED, describe_error


def rows_or_none(metric: Metric, measured: Measured, base: Measured | None) -> Values | None:
    """Read a metric's rows, without an error where it fails, of which the board tells.

    Args:
        metric: the metric.
        measured: what was measured on the model.
        base: the same of the baseline; None for the baseline itself.

    Returns:
        (n,) values; None if the model has none, or if the metric fails.
    """
    try:
        return metric.values(measured, base)
    except RAISED:
        return None


def estimates(models: Mapping[str, Measured], base: str) -> tuple[dict[str, dict[str, Noted]], dict[str, str]]:
    """Estimate every registered metric and every benchmark of every model.

    A metric that fails takes no other with it.

    Args:
        models: what was measured, by the model's name.
        base: the baseline's name; it has no number of what is measured against itself.

    Returns:
        For each model its estimates by metric, in the order of the tables' columns; and for each metric that fails
        the reason.
    """
    failed = {name: reason for m in models.values() for name, reason in m.failed.items()}
    of_base = models.get(base)
    estimated: dict[str, dict[str, Noted]] = {name: {} for name in models}
    for metric in all_metrics():
        try:
            pooled = metric.pooled(models, base) if metric.pooled is not None else {}
            own = {name: metric.estimate(m, of_base if name != base else None) for name, m in models.items()}
        except RAISED as e:  # a package's function may raise anything
            failed[metric.name] = describe_error(e)
            continue
        for name, estimate in own.items():
            if name in pooled:
                estimated[name][metric.name] = pooled[name]
            elif estimate is not None:
                estimated[name][metric.name] = Noted(estimate)
    for metric in source_metrics(models.values()).values():
        for name, measured in models.items():
            estimate = metric.estimate(measured, of_base if name != base else None)
            estimated[name] |= {} if estimate is None else {metric.name: Noted(estimate)}
    for name, measured in models.items():
        estimated[name] |= {task: Noted(benchmark_estimate(result)) for task, result in measured.benchmarks.items()}
    return estimated, failed
