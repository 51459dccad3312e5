"""Where each number of the long table comes from: loss, seed, commit, what it was measured on, against whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, Metrics


@dataclass(frozen=True)
class Provenance:
    """What a run's numbers depend on beyond the model.

    Attributes:
        seed: the recipe's.
        baseline: the model that win rates and held-out pairs are measured against.
        prompts, pairs: name and content hash, `name@hash`; empty if there were none.
        benchmarks: the same of each benchmark, by its name.
        losses, commits: of what trained each variant, by its name.
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
    """Add the columns judge, prompt_hash, loss, seed, commit, suite, baseline, missing; complete the column note.

    Args:
        long: a row per variant and metric, with its note.
        models: what was measured, by the variant's name.
        metrics: those of the rows.
        provenance: of the run.
    """
    of = {name: metrics[name] for name in dict.fromkeys(long.metric)}
    judged = [of[m].judged for m in long.metric]
    missing = [models[v].missing if j else 0 for v, j in zip(long.variant, judged, strict=True)]
    made = long.drop(columns="note")
    made["judge"] = [models[v].judge if j else "" for v, j in zip(long.variant, judged, strict=True)]
    made["prompt_hash"] = [models[v].prompt_hash if j else "" for v, j in zip(long.variant, judged, strict=True)]
    made["loss"] = [provenance.losses.get(v, "") for v in long.variant]
    made["seed"] = pd.array([provenance.seed] * len(long), dtype="Int64")
    made["commit"] = [provenance.commits.get(v, "") for v in long.variant]
    made["suite"] = [_suite(of[m], provenance) for m in long.metric]
    made["baseline"] = [provenance.baseline if of[m].needs_baseline else "" for m in long.metric]
    made["missing"] = missing
    made["note"] = [
        "; ".join(filter(None, [_missing(models[v], n), note]))
        for v, n, note in zip(long.variant, missing, long.note, strict=True)
    ]
    return made


def _suite(metric: Metric, provenance: Provenance) -> str:
    if metric.measured_on == "prompts":
        return provenance.prompts
    return provenance.pairs if metric.measured_on == "held-out pairs" else provenance.benchmarks.get(metric.name, "")


def _missing(measured: Measured, missing: int) -> str:
    if not missing:
        return ""
    withheld = all(p is None for p in measured.preferences)
    return f"{'withheld: ' if withheld else ''}{missing} of {len(measured.preferences)} missing"
