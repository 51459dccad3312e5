"""How long training took: the only cost in the leaderboard, which takes it from the run's costs."""

from __future__ import annotations

from prefzoo.evals.metrics.registry import COSTS, Metric, register

TRAIN_SECONDS = register(Metric(
    "train_seconds", "training", "training", higher_is_better=False, digits=0, position=COSTS,
    description="wall-clock seconds of training",
))  # fmt: skip
