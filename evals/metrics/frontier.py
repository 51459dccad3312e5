"""Reward against KL along a training (Rafailov 2023, arXiv:2305.18290, figure 2): what distance from the base buys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Estimate

COLUMNS = ("variant", "step", "kl", "kl_low", "kl_high", "reward", "reward_low", "reward_high", "metric")


@dataclass(frozen=True)
class FrontierPoint:
    """A variant after so many steps: per sampled answer its KL estimate in nats, per prompt or pair its reward.

    `metric` is what the reward is: `score` (the verifier's, of the same samples), `win_rate` (the judge's, of the same
    samples against the base's) or `preference_accuracy`. `answers` are the samples' texts.
    """

    kl: list[float]
    reward: list[float]
    metric: str
    answers: list[str] = field(default_factory=list)


def table(points: Mapping[str, Mapping[int, FrontierPoint]]) -> pd.DataFrame:
    """Return a row per variant and step, with 95% intervals, as in `frontier.csv`. The base is step 0, at KL 0."""
    rows = []
    for variant, steps in points.items():
        for step, point in sorted(steps.items()):
            divergence, reward = np.array(point.kl, dtype=float), intervals.mean(np.array(point.reward, dtype=float))
            kl = intervals.mean(divergence)
            if not divergence.any():  # the base itself: no share of zero, which might be another by chance
                kl = Estimate(0.0, 0.0, 0.0, 0.0, len(divergence))
            values = (kl.value, kl.low, kl.high, reward.value, reward.low, reward.high)
            rows.append((variant, step, *values, point.metric))
    return pd.DataFrame(rows, columns=list(COLUMNS))
