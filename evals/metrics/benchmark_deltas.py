"""Benchmarks in the long table: what each row was measured on and how, and paired differences from the base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import mcnemar
from prefzoo.evals.stats.intervals import Difference, Estimate, Values

DELTA = "_delta"
NORMAL = 1.96  # of a 95% interval


def benchmark_estimate(result: Mapping[str, Any]) -> Estimate:
    """Wilson's interval for a share of documents; else the spread between documents, or lm-eval's own error."""
    value, n = float(result["value"]), int(result["n"])
    scores = np.array([row["score"] for row in result.get("samples") or ()])
    if n and np.isfinite(value) and (not len(scores) or np.isin(scores, (0, 1)).all()) and _share(result):
        return intervals.proportion(round(value * n), n)
    stderr = float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else float(result["stderr"])
    return Estimate(value, stderr, value - NORMAL * stderr, value + NORMAL * stderr, n)


def _share(result: Mapping[str, Any]) -> bool:
    """Whether the value is a mean of zeros and ones: then value times n is a whole number."""
    value, n = float(result["value"]), int(result["n"])
    return 0 <= value <= 1 and abs(value * n - round(value * n)) < 1e-6  # noqa: PLR2004 - rounding


def with_benchmarks(long: pd.DataFrame, found: Mapping[str, Measured], base: str) -> pd.DataFrame:
    """The long table with the rows of benchmarks completed, a row `<suite>_delta` for each, and a column `p`.

    `p`: of "no difference from the base", corrected after Holm over the variants of a suite; empty elsewhere.
    """
    made = long.assign(p=np.nan)
    for at, variant, metric in zip(long.index, long.variant, long.metric, strict=True):
        result = found[variant].benchmarks.get(metric) if variant in found else None
        if result is not None:
            made.loc[at, "higher_is_better"] = result.get("higher_is_better", True)
            made.loc[at, "suite"] = result.get("suite") or made.loc[at, "suite"]
            made.loc[at, "note"] = _note(result)
    rows = deltas(found, base)
    if not rows:
        return made
    like = made.set_index(["variant", "metric"])
    for row in rows:
        source = like.loc[(row["variant"], str(row["metric"]).removesuffix(DELTA))]
        row.update({c: source[c] for c in ("loss", "seed", "commit", "suite", "higher_is_better", "missing")})
        row.update({"judge": "", "prompt_hash": "", "baseline": base})
    more = pd.DataFrame(rows).reindex(columns=made.columns)
    kinds = {c: made[c].dtype for c in ("seed", "missing", "n")}
    return pd.concat([made, more.astype(kinds)], ignore_index=True)


def _note(result: Mapping[str, Any]) -> str:
    if result.get("reason"):
        return f"unavailable: {result['reason']}"
    if "chat_template" not in result:
        return ""
    return f"{result['metric']}; chat template {'on' if result['chat_template'] else 'off'}"


def deltas(found: Mapping[str, Measured], base: str) -> list[dict[str, Any]]:
    """Rows of the differences from the base, document by document: McNemar's test where all scores are 0 or 1."""
    if base not in found:
        return []
    out: list[dict[str, Any]] = []
    for suite, theirs in found[base].benchmarks.items():
        rows = []
        for name, m in found.items():
            pair = _paired(m.benchmarks.get(suite, {}), theirs)
            if name != base and pair is not None:
                rows.append(_delta(name, suite, *pair))
        corrected = intervals.holm([row["p"] for row in rows])
        out += [{**row, "p": p} for row, p in zip(rows, corrected, strict=True)]
    return out


def _paired(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[Values, Values] | None:
    """Scores of the documents that both answered, by id and content; None where there are none."""
    if ours.get("metric") != theirs.get("metric") or ours.get("chat_template") != theirs.get("chat_template"):
        return None
    before = {(str(r["doc_id"]), r["doc_hash"]): float(r["score"]) for r in theirs.get("samples") or ()}
    both = [
        (float(r["score"]), before[key])
        for r in ours.get("samples") or ()
        if (key := (str(r["doc_id"]), r["doc_hash"])) in before
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
    how = "McNemar's exact test" if binary else "sign flips; mean over documents"
    return {
        "variant": name, "metric": suite + DELTA, "value": d.value, "stderr": stderr, "low": d.low, "high": d.high,
        "n": n, "p": d.p, "note": f"paired with the base by document; {how}, p after Holm",
    }  # fmt: skip
