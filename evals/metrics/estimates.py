"""Estimate the metrics of all models of a run, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping

from prefzoo.evals.metrics.benchmark_deltas import benchmark_estimate
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, Noted, all_metrics, source_metrics
from prefzoo.evals.stats.intervals import Values
from prefzoo.runtime.plugins import RAISED, describe_error


def rows_or_none(metric: Metric, measured: Measured, base: Measured | None) -> Values | None:
    """Return a metric's rows. A metric that fails raises no error here, since the board reports it.

    Args:
        metric: the metric.
        measured: measurements of the model.
        base: measurements of the baseline; None for the baseline itself.

    Returns:
        (n,) values; None if the model has none, or if the metric fails.
    """
    try:
        return metric.values(measured, base)
    except RAISED:
        return None


def estimates(models: Mapping[str, Measured], base: str) -> tuple[dict[str, dict[str, Noted]], dict[str, str]]:
    """Estimate every registered metric and every benchmark of every model.

    A metric that fails does not stop the others.

    Args:
        models: measurements by the model's name.
        base: name of the baseline, which gets no estimate of the metrics that compare a model with it.

    Returns:
        The estimates of each model by metric; and the reason of each metric that failed, by the metric's name.
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
