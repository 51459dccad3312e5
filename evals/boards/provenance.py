"""Provenance of each number in the long table: loss, seed, commit, evaluation set, baseline, judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, Metrics


@dataclass(frozen=True)
class Provenance:
    """Origin of a run's numbers.

    Attributes:
        seed: seed of the recipe.
        baseline: name of the model that win rates and held-out pairs are measured against.
        prompts, pairs: name and content hash of the evaluation set, as `name@hash`; empty if there is none.
        benchmarks: name and content hash of each benchmark, as `name@hash`, by the benchmark's name.
        losses, commits: loss that trained each variant, and commit of the code that did, by the variant's name.
    """

    seed: int | None = None
    baseline: str = ""
    prompts: str = ""
    pairs: str = ""
    benchmarks: Mapping[str, str] = field(default_factory=dict)
    losses: Mapping[str, str] = field(default_factory=dict)
    commits: Mapping[str, str] = field(default_factory=dict)


def with_provenance(
    long: pd.DataFrame, models: Mapping[str, Measured], metrics: Metrics, provenance: Provenance
) -> pd.DataFrame:
    """Add columns to the long table that state where its numbers come from.

    Args:
        long: the long table, a row per variant and metric, with a note each.
        models: measurements by the variant's name.
        metrics: metrics of the rows, by name.
        provenance: origin of the run's numbers.

    Returns:
        The table with the further columns judge, prompt_hash, loss, seed, commit, suite, baseline and missing. The
        note begins with the number of missing verdicts, if any are missing.
    """
    of = {name: metrics[name] for name in dict.fromkeys(long.metric)}
    judged = [of[m].judged for m in long.metric]
    missing = [models[v].missing if j else 0 for v, j in zip(long.variant, judged, strict=True)]
    table = long.drop(columns="note")
    table["judge"] = [models[v].judge if j else "" for v, j in zip(long.variant, judged, strict=True)]
    table["prompt_hash"] = [models[v].prompt_hash if j else "" for v, j in zip(long.variant, judged, strict=True)]
    table["loss"] = [provenance.losses.get(v, "") for v in long.variant]
    table["seed"] = pd.array([provenance.seed] * len(long), dtype="Int64")
    table["commit"] = [provenance.commits.get(v, "") for v in long.variant]
    table["suite"] = [_suite(of[m], provenance) for m in long.metric]
    table["baseline"] = [provenance.baseline if of[m].needs_baseline else "" for m in long.metric]
    table["missing"] = missing
    table["note"] = [
        "; ".join(filter(None, [_missing(models[v], n), note]))
        for v, n, note in zip(long.variant, missing, long.note, strict=True)
    ]
    return table


def _suite(metric: Metric, provenance: Provenance) -> str:
    if metric.measured_on == "prompts":
        return provenance.prompts
    return provenance.pairs if metric.measured_on == "held-out pairs" else provenance.benchmarks.get(metric.name, "")


def _missing(measured: Measured, missing: int) -> str:
    if not missing:
        return ""
    withheld = all(p is None for p in measured.preferences)
    return f"{'withheld: ' if withheld else ''}{missing} of {len(measured.preferences)} missing"
