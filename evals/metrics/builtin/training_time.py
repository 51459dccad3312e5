"""Costs of training in the leaderboard, which reads them from the run's files: seconds, energy, price."""

from __future__ import annotations

from prefzoo.evals.metrics.registry import COSTS, Metric, register

TRAIN_SECONDS = register(Metric(
    "train_seconds", "training", "training", higher_is_better=False, digits=0, position=COSTS,
    description="wall-clock seconds of training",
))  # fmt: skip
TRAIN_JOULES = register(Metric(
    "train_joules", "energy", "training", "J", higher_is_better=False, digits=0, position=COSTS + 1,
    description="energy of training, of the GPUs and processors that have an energy counter",
))  # fmt: skip
TRAIN_DOLLARS = register(Metric(
    "train_dollars", "cost", "training", "$", higher_is_better=False, digits=3, position=COSTS + 2,
    description="price of training, at the recipe's price_per_hour",
))  # fmt: skip
