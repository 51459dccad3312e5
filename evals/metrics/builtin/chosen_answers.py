"""Metrics of the chosen answers alone: change of their log-prob (likelihood displacement), and entropy along them."""

from __future__ import annotations

from torch import Tensor

from prefzoo.evals.metrics.registry import Metric, register
from prefzoo.types import LogProbs, VocabLogProbs


def displacement(policy: LogProbs, reference: LogProbs) -> Tensor:
    r"""Return (B,) $(c - c_0) / |c|$ in nats per token: below 0, training made the chosen answer less likely."""
    return policy.per_token().chosen - reference.per_token().chosen


def entropy(policy: VocabLogProbs) -> Tensor:
    """Return the (B,) mean entropy of the next-token distribution along the chosen answer, in nats."""
    return policy.chosen_entropy.sum(-1) / policy.chosen_len.clamp(min=1)


CHOSEN_DISPLACEMENT = register(Metric(
    "chosen_displacement", "chosen log-prob, change", "held-out pairs", "nats per token", digits=3,
    needs_baseline=True, diagnostic=True, base_value=0.0, position=13, from_logprobs=displacement,
    description="change of the chosen answer's log-prob, in nats per token; below 0, it became less likely",
))  # fmt: skip
ENTROPY = register(Metric(
    "entropy", "entropy", "held-out pairs", "nats", digits=2, diagnostic=True, position=14,
    description="mean entropy of the next token along the chosen answer, in nats",
    from_logprobs=lambda policy, _: entropy(policy),
))  # fmt: skip
