"""Benchmarks in the long table: values with intervals, suites, and paired differences from the base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import DELTA
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import mcnemar
from prefzoo.evals.stats.intervals import Difference, Estimate, Values

Z = 1.96  # of a 95% interval
SHARED = ["loss", "seed", "commit", "suite", "higher_is_better", "missing"]  # copied from a benchmark to its difference


def benchmark_estimate(result: Mapping[str, Any]) -> Estimate:
    """Return a benchmark's value with its interval.

    Args:
        result: the fields of a `prefzoo.evals.suites.benchmarks.Benchmark`.

    Returns:
        The value with Wilson's interval if it is a share of documents. Else the interval follows from the spread
        between documents, or from lm-eval's own standard error if there are no scores per document.
    """
    value, n = float(result["value"]), int(result["n"])
    scores = np.array([row["score"] for row in result.get("samples") or ()])
    if n and np.isfinite(value) and (not len(scores) or np.isin(scores, (0, 1)).all()) and _share(value, n):
        return intervals.proportion(round(value * n), n)
    stderr = float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else float(result["stderr"])
    return Estimate(value, stderr, value - Z * stderr, value + Z * stderr, n)


def _share(value: float, n: int) -> bool:
    """Return whether the value can be a mean of n zeros and ones, so that value times n is a whole number."""
    return 0 <= value <= 1 and abs(value * n - round(value * n)) < 1e-6  # noqa: PLR2004 - rounding


def with_benchmarks(long: pd.DataFrame, models: Mapping[str, Measured], base: str) -> pd.DataFrame:
    """Add suites, notes and differences from the base to the benchmarks in the long table.

    Args:
        long: the long table, a row per variant and metric.
        models: measurements by the variant's name.
        base: name of the baseline.

    Returns:
        The table with the suite and note of each benchmark, a row `<suite>_delta` for each difference from the base,
        and a column `p`: the p-value of each difference, Holm-corrected over the variants of a suite; NaN elsewhere.
    """
    table = long.assign(p=np.nan)
    for row, variant, metric in zip(long.index, long.variant, long.metric, strict=True):
        result = models[variant].benchmarks.get(metric)
        if result is not None:
            table.loc[row, "suite"] = result.get("suite") or table.loc[row, "suite"]
            table.loc[row, "note"] = _note(result)
    rows = deltas(models, base)
    if not rows:
        return table
    by_name = table.set_index(["variant", "metric"])
    for delta in rows:
        source = by_name.loc[(delta["variant"], str(delta["metric"]).removesuffix(DELTA))]
        delta.update({column: source[column] for column in SHARED} | {"judge": "", "prompt_hash": "", "baseline": base})
    more = pd.DataFrame(rows).reindex(columns=table.columns)
    return pd.concat([table, more.astype({c: table[c].dtype for c in ("seed", "missing", "n")})], ignore_index=True)


def _note(result: Mapping[str, Any]) -> str:
    if result.get("reason"):
        return f"unavailable: {result['reason']}"
    if "chat_template" not in result:
        return ""
    return f"{result['metric']}; chat template {'on' if result['chat_template'] else 'off'}"


def deltas(models: Mapping[str, Measured], base: str) -> list[dict[str, Any]]:
    """Return a row of the long table for each variant and benchmark: the variant minus the base, paired by document.

    The test is McNemar's if all scores are 0 or 1, else one of random sign flips.

    Args:
        models: measurements by the variant's name.
        base: name of the baseline.
    """
    if base not in models:
        return []
    out: list[dict[str, Any]] = []
    for suite, of_base in models[base].benchmarks.items():
        rows = []
        for name, measured in models.items():
            scores = _paired(measured.benchmarks.get(suite, {}), of_base)
            if name != base and scores is not None:
                rows.append(_delta(name, suite, *scores))
        corrected = intervals.holm([row["p"] for row in rows])
        out += [{**row, "p": p} for row, p in zip(rows, corrected, strict=True)]
    return out


def _paired(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[Values, Values] | None:
    """Return both models' scores of the documents with the same id and content; None if they share none."""
    if ours.get("metric") != theirs.get("metric") or ours.get("chat_template") != theirs.get("chat_template"):
        return None
    base_scores = {(str(r["doc_id"]), r["doc_hash"]): float(r["score"]) for r in theirs.get("samples") or ()}
    both = [
        (float(r["score"]), base_scores[key])
        for r in ours.get("samples") or ()
        if (key := (str(r["doc_id"]), r["doc_hash"])) in base_scores
    ]
    if not both:
        return None
    table = np.array(both)
    return table[:, 0], table[:, 1]


def _delta(name: str, suite: str, ours: Values, theirs: Values) -> dict[str, Any]:
    binary = bool(np.isin(np.concatenate([ours, theirs]), (0, 1)).all())
    d: Difference = mcnemar(ours, theirs) if binary else intervals.paired_difference(ours, theirs)
    n = len(ours)
    stderr = float((ours - theirs).std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    test = "McNemar's exact test" if binary else "sign flips; mean over documents"
    return {
        "variant": name, "metric": suite + DELTA, "value": d.value, "stderr": stderr, "low": d.low, "high": d.high,
        "n": n, "p": d.p, "note": f"paired with the base by document; {test}, p after Holm",
    }  # fmt: skip
