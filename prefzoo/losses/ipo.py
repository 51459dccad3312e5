"""IPO: a squared loss with a finite target margin, on sums (`ipo`) and on means over tokens (`ipo_mean`)."""

from __future__ import annotations

from typing import Any

from prefzoo.losses._bounds import Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor
from prefzoo.types import LogProbs


def squared_target(params: Any) -> float:
    """Return the squared distance of a margin of zero from the target margin."""
    return float((1 / (2 * params.tau)) ** 2)


@loss(
    paper="Azar 2023, arXiv:2310.12036",
    equation="Eq. 17",
    at_reference=squared_target,
    grid={"tau": (7e-4, 0.001, 0.005, 0.01, 0.05, 0.1)},
    learning_rate=(7e-7, 1e-6),
    traps=(
        "TRL's and HALOs' `ipo` is ipo_mean: a tau tuned for one does not fit the other",
        "LLaMA-Factory's `ipo` trains DPO on means with the TRL versions that it allows",
    ),
)
def ipo(policy: LogProbs, reference: LogProbs, *, tau: Positive = 0.01) -> Tensor:
    r"""Squared distance of the log-ratio margin from a target of $1/(2\tau)$ nats.

    $$ L = \left(h - \frac{1}{2\tau}\right)^2, \quad h = (c - r) - (c_0 - r_0) $$

    Log-probs are sums over tokens, as in the paper's equation, in OpenRLHF and in the first DPO code. TRL's `ipo`
    averages over tokens: see `ipo_mean`, whose tau has another scale. The grid is that of arXiv:2502.01237.
    """
    h = policy.margin - reference.margin
    return (h - 1 / (2 * tau)) ** 2


@loss(
    paper="Azar 2023, arXiv:2310.12036; averaged as in huggingface.co/blog/pref-tuning",
    equation="Eq. 17 on means",
    at_reference=squared_target,
    group="length-aware",
    grid={"tau": (0.01, 0.1, 0.5, 1.0)},
    learning_rate=(3e-7, 5e-7, 6e-7, 1e-6),
    traps=("the target is in nats per token: at tau 0.1 it is 5, which is never reached, so the margin keeps growing",),
)
def ipo_mean(policy: LogProbs, reference: LogProbs, *, tau: Positive = 0.1) -> Tensor:
    r"""IPO on log-ratios averaged over tokens, with a target of $1/(2\tau)$ nats *per token*.

    $$ L = \left(\frac{c - c_0}{|w|} - \frac{r - r_0}{|l|} - \frac{1}{2\tau}\right)^2 $$

    This is TRL's `ipo` with its default tau, whose target of 5 nats per token is never reached: the loss is then nearly
    linear. The grid is SimPO's for this loss.
    """
    h = policy.per_token().margin - reference.per_token().margin
    return (h - 1 / (2 * tau)) ** 2
