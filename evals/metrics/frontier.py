"""Reward against KL from the base over the steps of a training (Rafailov 2023, arXiv:2305.18290, figure 2)."""

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
    """KL and reward of a variant at one step of its training.

    Attributes:
        kl: estimate of the KL from the base for each sampled answer, in nats.
        reward: reward per prompt or pair.
        metric: what the reward is: `score` (the verifier's, of the same samples), `win_rate` (the judge's, of the same
            samples against the base's) or `preference_accuracy`.
        answers: texts of the samples.
    """

    kl: list[float]
    reward: list[float]
    metric: str
    answers: list[str] = field(default_factory=list)


def table(points: Mapping[str, Mapping[int, FrontierPoint]]) -> pd.DataFrame:
    """Return the table of `frontier.csv`: a row per variant and step, with 95% intervals; step 0 is the base."""
    rows = []
    for variant, steps in points.items():
        for step, point in sorted(steps.items()):
            divergence, reward = np.array(point.kl, dtype=float), intervals.mean(np.array(point.reward, dtype=float))
            kl = intervals.mean(divergence)
            if not divergence.any():  # the base itself: its KL is exactly 0, without an interval
                kl = Estimate(0.0, 0.0, 0.0, 0.0, len(divergence))
            values = (kl.value, kl.low, kl.high, reward.value, reward.low, reward.high)
            rows.append((variant, step, *values, point.metric))
    return pd.DataFrame(rows, columns=list(COLUMNS))
