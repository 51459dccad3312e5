"""The metrics of all models of a run, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping

from prefzoo.errors import UserError
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

    Raises:
        UserError: a metric's function fails, or its rows are no (n,) array.
    """
    of_base = models.get(base)
    estimated: dict[str, dict[str, Noted]] = {name: {} for name in models}
    for metric in all_metrics():
        try:
            pooled = metric.pooled(models, base) if metric.pooled is not None else {}
            own = {name: metric.estimate(m, of_base if name != base else None) for name, m in models.items()}
        except Exception as e:  # a package's function may raise anything
            raise UserError(f"metric {metric.name}: fails: {type(e).__name__}: {e}; fix it in its package") from e
        for name, estimate in own.items():
            if name in pooled:
                estimated[name][metric.name] = pooled[name]
            elif estimate is not None:
                estimated[name][metric.name] = Noted(estimate)
    for name, measured in models.items():
        estimated[name] |= {task: Noted(benchmark_estimate(result)) for task, result in measured.benchmarks.items()}
    return estimated
