"""What training took: the costs in the leaderboard, which takes them from the run's."""

from __future__ import annotations

from prefzoo.evals.metrics.registry import COSTS, Metric, register

TRAIN_SECONDS = register(Metric(
    "train_seconds", "training", "training", higher_is_better=False, digits=0, position=COSTS,
    description="wall-clock seconds of training",
))  # fmt: skip
TRAIN_JOULES = register(Metric(
    "train_joules", "energy", "training", "J", higher_is_better=False, digits=0, position=COSTS + 1,
    description="energy of training, of GPUs and processors where they have counters",
))  # fmt: skip
TRAIN_DOLLARS = register(Metric(
    "train_dollars", "cost", "training", "$", higher_is_better=False, digits=3, position=COSTS + 2,
    description="price of training, by the recipe's price_per_hour",
))  # fmt: skip
