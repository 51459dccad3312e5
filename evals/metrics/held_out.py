"""Measure a model on held-out pairs: margins under one common frozen reference, and all metrics of log-probs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefzoo.evals.metrics.measure import HeldOut, Measured
from prefzoo.evals.metrics.registry import Metric, all_metrics
from prefzoo.runtime.plugins import RAISED, describe_error
from prefzoo.types import LogProbs, VocabLogProbs

DECIMALS = 6  # of the stored values


def preference_margins(policy: LogProbs, reference: LogProbs) -> list[float]:
    """Return the log-ratio margin h of every held-out pair, in nats."""
    return [float(v) for v in policy.margin - reference.margin]


def on_pairs(
    policy: VocabLogProbs, reference: LogProbs, beta: float | None, metrics: Sequence[Metric] | None = None
) -> HeldOut:
    """Measure margins and every metric of log-probs on held-out pairs. A metric that fails does not stop the others.

    Args:
        policy: log-probs of the (B,) pairs under the model.
        reference: log-probs of the same pairs under the common frozen reference.
        beta: factor by which the model's loss multiplies margins; None if it has no such parameter.
        metrics: metrics to measure; by default all registered ones.

    Returns:
        Margins and further values, in the order of the pairs, and the reasons of the metrics that failed.
    """
    pairs: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for metric in all_metrics() if metrics is None else metrics:
        if metric.from_logprobs is None:
            continue
        try:
            values = metric.from_logprobs(policy, reference).detach().double().cpu().numpy()
            if values.shape != (len(policy),):
                raise ValueError(f"values of shape {values.shape} for {len(policy)} pairs; return one per pair")
            pairs[metric.name] = [float(v) for v in np.round(values, DECIMALS)]
        except RAISED as e:  # a package's function may raise anything
            failed[metric.name] = describe_error(e)
    return HeldOut(preference_margins(policy, reference), pairs, beta, failed)


def has_all_metrics(measured: Measured) -> bool:
    """Return whether a stored measurement has every registered metric of log-probs; True without held-out pairs.

    Packages that were installed after the measurement may have added metrics.
    """
    wanted = {m.name for m in all_metrics() if m.from_logprobs is not None}
    return not measured.margins or not wanted - measured.pairs.keys()
