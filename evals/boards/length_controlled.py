"""The length-controlled win rate of a run's variants, each other's pool: beside every raw one."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prefzoo.evals.judges.annotations import Annotations
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats.intervals import Estimate
from prefzoo.evals.stats.length_control import LengthControlled, length_controlled


def controlled(found: Mapping[str, Measured], base: str) -> dict[str, LengthControlled]:
    """Of every variant that a judge compared with the base; the prompts are the same, in the same order."""
    if base not in found:
        return {}
    theirs = found[base].answers
    pool = [_annotations(name, m, theirs, base) for name, m in found.items() if name != base and m.preferences]
    return length_controlled(pool) if pool else {}


def estimate(lc: LengthControlled, n: int) -> Estimate:
    """As a share; `n` is the number of preferences."""
    return Estimate(lc.value / 100, lc.stderr / 100, lc.low / 100, lc.high / 100, n)


def says(lc: LengthControlled) -> str:
    """Where the difficulties are from, and what makes the number doubtful."""
    return "; ".join([f"difficulty {lc.difficulty}", *lc.warnings])


def _annotations(name: str, m: Measured, theirs: list[str], base: str) -> Annotations:
    keys = [f"{i:08d}" for i in range(len(m.answers))]  # a prompt's place stands for its text: sorted, it stays there
    columns = {"instruction": keys, "output_1": theirs, "output_2": m.answers, "preference": m.preferences}
    return Annotations(name, base, m.judge, pd.DataFrame(columns))
