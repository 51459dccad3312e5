"""Remarks on a board beside its ranking: another leader under length control, answers that are short or repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from prefzoo.evals.boards.verdict import interval_text, names
from prefzoo.evals.metrics.registry import Metrics

COLLAPSED = 0.5  # share of the base's mean length below which answers count as too short
REPEATS = 0.2  # difference from the base's repetition above which answers count as repetitive


def by_length(long: pd.DataFrame, metrics: Metrics, trained: Sequence[str]) -> list[str]:
    """State whether another variant leads by the length-controlled win rate.

    Args:
        long: the long table.
        metrics: metrics of its rows, by name.
        trained: names of the variants, best first.

    Returns:
        A list with one sentence; empty if the same variant leads.
    """
    rates = long[(long.metric == "win_rate_lc") & long.variant.isin(trained)]
    rates = rates.set_index("variant").dropna(subset="value")
    if trained[0] not in rates.index or rates.value.max() == rates.value[trained[0]]:
        return []
    first, metric = str(rates.value.idxmax()), metrics["win_rate_lc"]
    by_name: dict[str, Any] = {name: rates.loc[name] for name in (first, trained[0])}
    rate, lead = (interval_text(metric, row) for row in by_name.values())
    return [f"By the length-controlled win rate {first} leads with {rate}, and {trained[0]} has {lead}."]


CORRECTED = {"win_rate_ppi": "prediction-powered", "win_rate_rg": "Rogan-Gladen"}


def corrected(long: pd.DataFrame, metrics: Metrics, leader: str) -> list[str]:
    """State the leader's win rate corrected for the judge's errors.

    Args:
        long: the long table.
        metrics: metrics of its rows, by name.
        leader: name of the variant that leads.

    Returns:
        A list with one sentence; empty if no win rate is corrected.
    """
    own = long[long.variant == leader].set_index("metric")
    by_name: dict[str, Any] = {name: own.loc[name] for name in CORRECTED if name in own.index}
    rates = [
        f"{interval_text(metrics[name], row)} ({CORRECTED[name]}, {row.note})"
        for name, row in by_name.items()
        if np.isfinite(row.value)
    ]
    return [f"Corrected for the judge's errors, {leader} has {' or '.join(rates)}."] if rates else []


def collapsed(long: pd.DataFrame, base: str, trained: Sequence[str]) -> list[str]:
    """State which variants' answers are much shorter than the base's, or repeat themselves.

    Args:
        long: the long table.
        base: name of the base.
        trained: names of the variants, best first.

    Returns:
        At most two sentences, one for short and one for repetitive answers.
    """
    length, repeated = (long[long.metric == metric].set_index("variant").value for metric in ("words", "repetition"))
    if base not in length.index:
        return []
    short = [n for n in trained if length.get(n, np.nan) < COLLAPSED * length[base]]
    stuck = [n for n in trained if repeated.get(n, np.nan) > repeated.get(base, np.nan) + REPEATS]
    warnings = [f"Beware: answers of {names(short)} are less than half as long as the base's."] if short else []
    return warnings + ([f"Beware: answers of {names(stuck)} repeat themselves."] if stuck else [])
