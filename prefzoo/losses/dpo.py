"""DPO, and losses that replace its logistic function of the log-ratio margin or add a term to the margin."""

from __future__ import annotations

import math
from typing import Any

from prefzoo.losses._bounds import FlipRate, NonNegative, Positive, PositiveFlipRate, PositiveShare
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid, relu, torch
from prefzoo.types import LogProbs


def ln2(_: object) -> float:
    """Return the logistic loss at a margin of zero."""
    return math.log(2)


@loss(
    paper="Rafailov 2023, arXiv:2305.18290",
    equation="Eq. 7",
    at_reference=ln2,
    grid={"beta": (0.001, 0.003, 0.005, 0.01, 0.05, 0.1)},
    learning_rate=(3e-7, 5e-7, 7e-7, 1e-6),
    traps=("beta and learning rate matter more than the choice of loss: 0.003 and 0.1 are both published bests",),
)
def dpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""Logistic loss on how much more strongly the policy prefers the chosen answer than the reference does.

    $$ L = -\log\sigma(\beta h), \quad h = (c - r) - (c_0 - r_0) $$

    Log-probs are sums over tokens. The paper uses beta 0.1 (0.5 for TL;DR), Zephyr 0.01; the grid is that of
    arXiv:2502.01237. DPO is the f-divergence loss under the reverse KL; for other divergences see `fdpo_js`,
    `fdpo_alpha` and `fdpo_forward_kl`.
    """
    h = policy.margin - reference.margin
    return -logsigmoid(beta * h)


@loss(
    paper="Mitchell 2023, ericmitchell.ai/cdpo.pdf",
    equation="Eq. 3",
    at_reference=ln2,
    group="noise-robust",
    grid={"flip_rate": (0.1, 0.2)},
    traps=("TRL's `sigmoid` ignores label_smoothing since 0.29 and is then plain DPO",),
)
def cdpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, flip_rate: FlipRate = 0.1) -> Tensor:
    r"""Conservative DPO: expected loss if a label is flipped with probability $\epsilon$ (`flip_rate`).

    $$ L = -(1-\epsilon) \log\sigma(\beta h) - \epsilon \log\sigma(-\beta h) $$

    $h = (c - r) - (c_0 - r_0)$. The minimum lies at a finite margin, $\beta h = \log((1-\epsilon)/\epsilon)$. Since
    0.29, TRL's `sigmoid` ignores `label_smoothing` and is plain DPO.
    """
    h = policy.margin - reference.margin
    return -(1 - flip_rate) * logsigmoid(beta * h) - flip_rate * logsigmoid(-beta * h)


@loss(
    paper="Chowdhury 2024, arXiv:2403.00409",
    equation="Eq. 12",
    at_reference=ln2,
    group="noise-robust",
    grid={"beta": (0.01, 0.1), "flip_rate": (0.1,)},
    learning_rate=(1e-3,),
    traps=("unbounded below: flipped pairs are pushed apart without end, so the loss is not a stopping criterion",),
)
def robust(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, flip_rate: FlipRate = 0.1) -> Tensor:
    r"""Robust DPO: unbiased if labels are flipped with probability $\epsilon$ (`flip_rate`).

    $$ L = \frac{-(1-\epsilon) \log\sigma(\beta h) + \epsilon \log\sigma(-\beta h)}{1 - 2\epsilon} $$

    $h = (c - r) - (c_0 - r_0)$. Unbounded below: for large margins it decreases with slope
    $-\epsilon/(1-2\epsilon)$, so its value is no stopping criterion. TRL's index of papers quotes beta 0.01 and flip
    rate 0.1 from the paper.
    """
    h = policy.margin - reference.margin
    return (-(1 - flip_rate) * logsigmoid(beta * h) + flip_rate * logsigmoid(-beta * h)) / (1 - 2 * flip_rate)


def exo_start(params: Any) -> float:
    """Return the reverse KL from an even preference to the smoothed label."""
    return -math.log(2) - (math.log1p(-params.epsilon) + math.log(params.epsilon)) / 2


@loss(
    paper="Ji 2024 (EXO), arXiv:2402.00856",
    equation="Eq. 16",
    at_reference=exo_start,
    group="noise-robust",
    grid={"beta": (0.1, 0.5), "epsilon": (1e-3,)},
    learning_rate=(1e-6,),
    traps=(
        "the authors' code fixes log(epsilon) at -10 and log(1 - epsilon) at 0, which is another loss",
        "the loss is infinite at epsilon = 0; ms-swift silently replaces it by 0.001",
    ),
)
def exo_pair(
    policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, epsilon: PositiveFlipRate = 1e-3
) -> Tensor:
    r"""Reverse KL between the policy's preference and a label that is smoothed by $\epsilon$.

    $$ L = \sigma(\beta h)\,[\log\sigma(\beta h) - \log(1-\epsilon)]
         + \sigma(-\beta h)\,[\log\sigma(-\beta h) - \log\epsilon] $$

    $h = (c - r) - (c_0 - r_0)$. DPO is the KL in the other direction. The paper uses beta 0.1 to 0.5 and
    epsilon 0.001.
    """
    x = beta * (policy.margin - reference.margin)
    right = torch.sigmoid(x) * (logsigmoid(x) - math.log1p(-epsilon))
    return right + torch.sigmoid(-x) * (logsigmoid(-x) - math.log(epsilon))


def discopop_start(_: object) -> float:
    """Return half of each component: (log 2 + 1) / 2."""
    return (math.log(2) + 1) / 2


@loss(
    paper="Lu 2024 (DiscoPOP, LRML), arXiv:2406.08414",
    equation="Eq. 5",
    at_reference=discopop_start,
    grid={"beta": (0.05,), "tau": (0.05,)},
    learning_rate=(5e-7,),
    traps=(
        "not convex: at policy = reference the gradient lowers the margin, with a minimum just below zero",
        "a naive implementation is NaN once beta h < -88 (TRL, Liger, ms-swift)",
    ),
)
def discopop(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.05, tau: PositiveShare = 0.05) -> Tensor:
    r"""Blend of the logistic and the exponential loss, weighted by the margin itself; found by a language model.

    $$ L = -(1-m)\log\sigma(x) + m\,e^{-x}, \quad x = \beta h, \quad m = \sigma(x/\tau) $$

    $h = (c - r) - (c_0 - r_0)$. The second term is computed as $e^{\log\sigma(x/\tau) - x}$, which is finite
    everywhere for tau up to 1. The defaults are the paper's.
    """
    x = beta * (policy.margin - reference.margin)
    return -logsigmoid(x) * torch.sigmoid(-x / tau) + torch.exp(logsigmoid(x / tau) - x)


@loss(
    paper="Pal 2024 (DPO-Positive, Smaug), arXiv:2402.13228",
    at_reference=ln2,
    grid={"weight": (5.0, 50.0, 500.0), "beta": (0.1, 0.3)},
    traps=("the penalty is inside the sigmoid and multiplied by beta; as a separate term it is another loss",),
)
def dpop(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.3, weight: NonNegative = 50.0) -> Tensor:
    r"""DPO with a penalty of $\lambda$ (`weight`) for each nat by which the chosen answer falls below the reference.

    $$ L = -\log\sigma\left(\beta\,(h - \lambda \max(0, c_0 - c))\right) $$

    $h = (c - r) - (c_0 - r_0)$. Beta 0.3 and weight 50 are the paper's, which finds weights from 5 to 500 equally
    good; the authors of SamPO compare it at beta 0.1.
    """
    h = policy.margin - reference.margin
    return -logsigmoid(beta * (h - weight * relu(reference.chosen - policy.chosen)))


def cal_start(params: Any) -> float:
    """Return the loss at a margin of zero, with both squares at their full distance."""
    return math.log(2) + float(params.weight * 2 * (1 / (2 * params.beta)) ** 2)


@loss(
    paper="Xiao 2024 (Cal-DPO), arXiv:2412.14516",
    equation="as in the authors' code",
    at_reference=cal_start,
    grid={"beta": (5e-5, 3e-4, 1e-3, 2e-3, 3e-3)},
    learning_rate=(5e-7,),
    traps=(
        "as in the authors' code, there is no beta in the logistic term",
        "at beta 0.001 the targets are +-500 nats: the squares dominate the logistic term",
    ),
)
def cal_dpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 1e-3, weight: NonNegative = 0.5) -> Tensor:
    r"""Logistic loss plus a squared distance of each log-ratio from its own target, which calibrates the rewards.

    $$ L = -\log\sigma(h) + \lambda\left[\left(p_w - \frac{1}{2\beta}\right)^2
         + \left(p_l + \frac{1}{2\beta}\right)^2\right] $$

    $p_w = c - c_0$, $p_l = r - r_0$, $h = p_w - p_l$; $\lambda$ (`weight`) is 0.5 in the authors' code. Their
    calibration term is a mean over the batch, which equals this once the training loop averages the rows.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    calibration = (chosen - 1 / (2 * beta)) ** 2 + (rejected + 1 / (2 * beta)) ** 2
    return -logsigmoid(chosen - rejected) + weight * calibration
