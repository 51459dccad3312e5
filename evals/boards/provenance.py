"""Where each number of the long table comes from: loss, seed, commit, what it was measured on, against whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from prefzoo.evals.metrics.measure import Measured

ON_PAIRS = (
    "preference_accuracy", "preference_margin", "length_normalised_accuracy", "calibration_error",
    "chosen_displacement", "entropy",
)  # fmt: skip
JUDGED = ("win_rate", "win_rate_lc")
ON_PROMPTS = (*JUDGED, "score", "words", "repetition", "finished", "length_ratio", "kl")
ALONE = ("entropy", "length_normalised_accuracy")  # of the policy by itself
COMPARED = {*JUDGED, *ON_PAIRS, "length_ratio", "kl"} - {*ALONE}  # what has a baseline


@dataclass(frozen=True)
class Receipts:
    """What a run's numbers depend on beyond the model.

    Attributes:
        prompts, pairs: name and content hash, `name@hash`; empty where there were none.
        benchmarks: of each benchmark by its name, likewise.
        losses, commits: by variant; of what trained it.
        baseline: what win rates and held-out pairs are measured against.
    """

    seed: int | None = None
    baseline: str = ""
    prompts: str = ""
    pairs: str = ""
    benchmarks: Mapping[str, str] = field(default_factory=dict)
    losses: Mapping[str, str] = field(default_factory=dict)
    commits: Mapping[str, str] = field(default_factory=dict)


def with_receipts(
    long: pd.DataFrame, found: Mapping[str, Measured], receipts: Receipts, controlled: Mapping[str, str]
) -> pd.DataFrame:
    """The long table with its further columns. `controlled`: a note on the LC rate of each variant."""
    made = long.copy()
    made["loss"] = [receipts.losses.get(v, "") for v in long.variant]
    made["seed"] = pd.array([receipts.seed] * len(long), dtype="Int64")
    made["commit"] = [receipts.commits.get(v, "") for v in long.variant]
    made["suite"] = [_suite(m, receipts) for m in long.metric]
    made["baseline"] = [receipts.baseline if m in COMPARED else "" for m in long.metric]
    gone = [found[v].missing if m in JUDGED else 0 for v, m in zip(long.variant, long.metric, strict=True)]
    made["missing"] = gone
    made["note"] = [
        "; ".join(filter(None, [_note(found[v], n), controlled.get(v, "") if m == "win_rate_lc" else ""]))
        for v, m, n in zip(long.variant, long.metric, gone, strict=True)
    ]
    return made


def _suite(metric: str, receipts: Receipts) -> str:
    if metric in ON_PROMPTS:
        return receipts.prompts
    return receipts.pairs if metric in ON_PAIRS else receipts.benchmarks.get(metric, "")


def _note(m: Measured, missing: int) -> str:
    if not missing:
        return ""
    withheld = all(p is None for p in m.preferences)
    return f"{'withheld: ' if withheld else ''}{missing} of {len(m.preferences)} missing"
