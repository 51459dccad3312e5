"""Simulate pools of models and their annotations from the length-control model, with known win rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from prefzoo.evals.judges.annotations import Annotations
from prefzoo.evals.stats.intervals import Values


@dataclass(frozen=True)
class Pool:
    """Annotations of models over the same instructions, with the true length-controlled win rates in percent.

    `truth` is the win rate over the instructions drawn, `population` that over all possible instructions.
    """

    models: list[Annotations]
    gamed: pd.DataFrame
    difficulty: pd.Series
    truth: Values
    population: Values


def simulate(models: int = 20, n: int = 805, seed: int = 0) -> Pool:
    """Simulate a pool of models and two gamed ones.

    Win rates are from 5 to 95 percent, mostly below 50. Most verdicts are close to 0 or 1, and many models give much
    shorter answers than the baseline.
    """
    rng = np.random.default_rng(seed)
    x, base = rng.normal(size=n), np.exp(rng.normal(6, 0.5, n))
    b, a = np.r_[rng.normal(-1.2, 1.2, models), 0, 0], np.r_[rng.normal(0.7, 0.3, models), 0.2, -0.2]
    w, shift = np.r_[rng.normal(-1, 0.3, models), -1, -1], np.r_[rng.normal(-0.4, 0.5, models), 0.4, -0.6]
    simulated, truth, population = [], [], []
    at, weight = np.polynomial.hermite_e.hermegauss(60)  # difficulties are standard normal
    names = [*(f"m{m}" for m in range(models)), "verbose", "concise"]
    for m, name in enumerate(names):
        lengths = np.maximum(1, base * np.exp(shift[m] + rng.normal(0, 0.5, n))).astype(int)
        gap = base.astype(int) - lengths
        t = np.tanh(gap / gap.std(ddof=1))
        p = expit(w[m] * t + a[m] * x + b[m])
        won = rng.beta(np.maximum(0.3 * p, 1e-9), np.maximum(0.3 * (1 - p), 1e-9))  # its mean is p
        simulated.append(annotate(name, 1 + won, base.astype(int).tolist(), lengths.tolist()))
        truth.append(100 * expit(a[m] * x + b[m]).mean())
        population.append(100 * np.average(expit(a[m] * at + b[m]), weights=weight))
    texts = [f"task {i:04d}" for i in range(n)]
    gamed = pd.concat([_gamed(one) for one in simulated[models:]])
    gamed["instruction_difficulty"] = np.tile(x, 2)
    return Pool(
        simulated[:models], gamed, pd.Series(x, index=texts), np.array(truth[:models]), np.array(population[:models])
    )


def _gamed(one: Annotations) -> pd.DataFrame:
    gap = one.rows["output_1"].str.len() - one.rows["output_2"].str.len()
    columns = {
        "index": range(len(gap)), "model": one.model, "preference": one.rows["preference"] - 1,
        "std_delta_len": gap / gap.std(), "not_gamed_baseline": False,
    }  # fmt: skip
    return pd.DataFrame(columns)


def annotate(name: str, preference: Any, base: list[int], lengths: list[int]) -> Annotations:
    """Return annotations of texts of the given lengths."""
    rows = {
        "instruction": [f"task {i:04d}" for i in range(len(base))],
        "output_1": ["x" * n for n in base], "output_2": ["y" * n for n in lengths],
        "generator_1": "base", "generator_2": name, "annotator": "simulated", "preference": preference,
    }  # fmt: skip
    return Annotations(name, "base", "simulated", pd.DataFrame(rows))
