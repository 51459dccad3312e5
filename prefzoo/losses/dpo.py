"""DPO and its noise-aware readings: a logistic loss on the log-ratio margin."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from prefzoo.losses._bounds import FlipRate, Positive
from prefzoo.losses._registry import loss
from prefzoo.types import LogProbs


def ln2(_: object) -> float:
    """The logistic loss of a margin of zero."""
    return math.log(2)


@loss(paper="Rafailov 2023, arXiv:2305.18290", equation="Eq. 7", at_reference=ln2)
def dpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""Logistic loss on how much more the policy prefers the chosen answer than the reference does.

    $$ L = -\log\sigma(\beta h), \quad h = (c - r) - (c_0 - r_0) $$

    Log-probs are sums over tokens. The paper uses beta 0.1 (0.5 for TL;DR), Zephyr 0.01.
    """
    h = policy.margin - reference.margin
    return -logsigmoid(beta * h)


@loss(paper="Mitchell 2023, ericmitchell.ai/cdpo.pdf", equation="Eq. 3", at_reference=ln2)
def cdpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, flip_rate: FlipRate = 0.1) -> Tensor:
    r"""DPO averaged over both possible labels, the other one with probability $\epsilon$ (`flip_rate`).

    $$ L = -(1-\epsilon) \log\sigma(\beta h) - \epsilon \log\sigma(-\beta h) $$

    Its minimum is at a finite margin, $\beta h = \log((1-\epsilon)/\epsilon)$. Since 0.29 TRL's `sigmoid` ignores
    `label_smoothing`, so there this loss is plain DPO.
    """
    h = policy.margin - reference.margin
    return -(1 - flip_rate) * logsigmoid(beta * h) - flip_rate * logsigmoid(-beta * h)


@loss(paper="Chowdhury 2024, arXiv:2403.00409", equation="Eq. 12", at_reference=ln2)
def robust(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, flip_rate: FlipRate = 0.1) -> Tensor:
    r"""DPO made unbiased under labels that are flipped with probability $\epsilon$ (`flip_rate`).

    $$ L = \frac{-(1-\epsilon) \log\sigma(\beta h) + \epsilon \log\sigma(-\beta h)}{1 - 2\epsilon} $$

    Unbounded below: for large margins it falls with slope $-\epsilon/(1-2\epsilon)$, so its value is no stop signal.
    """
    h = policy.margin - reference.margin
    return (-(1 - flip_rate) * logsigmoid(beta * h) + flip_rate * logsigmoid(-beta * h)) / (1 - 2 * flip_rate)
