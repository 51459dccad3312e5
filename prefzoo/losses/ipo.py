"""IPO: a squared loss that stops at a finite margin. Two readings, two names."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prefzoo.losses._bounds import Positive
from prefzoo.losses._registry import loss
from prefzoo.types import LogProbs


def squared_target(params: Any) -> float:
    """The squared distance of a margin of zero from the target margin."""
    return float((1 / (2 * params.tau)) ** 2)


@loss(paper="Azar 2023, arXiv:2310.12036", equation="Eq. 17", at_reference=squared_target)
def ipo(policy: LogProbs, reference: LogProbs, *, tau: Positive = 0.01) -> Tensor:
    r"""Squared distance of the log-ratio margin from a target of $1/(2\tau)$ nats.

    $$ L = \left(h - \frac{1}{2\tau}\right)^2, \quad h = (c - r) - (c_0 - r_0) $$

    Log-probs are sums over tokens, as in the paper's equation (OpenRLHF and the first DPO code do the same).
    TRL's `ipo` averages per token: see `ipo_mean`; the two never share a tau.
    """
    h = policy.margin - reference.margin
    return (h - 1 / (2 * tau)) ** 2


@loss(
    paper="Azar 2023, arXiv:2310.12036; averaged as in huggingface.co/blog/pref-tuning",
    equation="Eq. 17 on means",
    at_reference=squared_target,
)
def ipo_mean(policy: LogProbs, reference: LogProbs, *, tau: Positive = 0.1) -> Tensor:
    r"""IPO on log-ratios averaged over tokens; its target is $1/(2\tau)$ nats *per token*.

    $$ L = \left(\frac{c - c_0}{|w|} - \frac{r - r_0}{|l|} - \frac{1}{2\tau}\right)^2 $$

    This is TRL's `ipo` (and its default tau, whose 5 nats per token are never reached: the loss is then nearly linear).
    """
    h = policy.per_token().margin - reference.per_token().margin
    return (h - 1 / (2 * tau)) ** 2
