"""Variants of DPO that treat the chosen and the rejected answer's log-ratios differently, or weigh pairs by the margin.

Most aim to prevent displacement: DPO's margin can grow while both answers become less likely.
"""

from __future__ import annotations

import math
from typing import Any

from prefzoo.losses._bounds import NonNegative, Positive, PositiveShare
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid, relu, torch
from prefzoo.losses.dpo import ln2
from prefzoo.types import LogProbs

PEER = "formula from another project's code, not from the paper or the authors' code"


@loss(
    paper="Yang 2025 (DPO-Shift), arXiv:2502.07599",
    equation="as in the authors' code",
    at_reference=ln2,
    grid={"shift": (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0), "beta": (0.01,)},
    learning_rate=(5e-7,),
    traps=(
        "the authors also let the shift grow or fall linearly over the run; here it is fixed",
        "its argument is not the reward margin: a model whose two log-ratios rise alike is rewarded",
    ),
)
def dpo_shift(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.01, shift: PositiveShare = 0.7) -> Tensor:
    r"""DPO that weighs the rejected answer's log-ratio by $\lambda$ (`shift`), so that the chosen answer counts more.

    $$ L = -\log\sigma\left(\beta\,(p_w - \lambda p_l)\right) $$

    $p_w = c - c_0$, $p_l = r - r_0$. With a shift of 1 it is DPO. Beta 0.01, shift 0.7 and the grid are those of the
    authors' scripts.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    return -logsigmoid(beta * (chosen - shift * rejected))


@loss(
    paper="Sun 2025 (BPO), arXiv:2506.03557",
    equation="as in the authors' code",
    at_reference=ln2,
    grid={"alpha": (0.3,), "beta": (0.1,)},
    learning_rate=(5e-6,),
    traps=(
        "only one of the two answers has a gradient, except where both terms are equal, as at policy = reference",
        "the authors' configuration uses a hinge instead of the logistic function; other papers are called BPO too",
    ),
)
def bpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, alpha: Positive = 0.3) -> Tensor:
    r"""Logistic loss on the smaller of two gains: the rise of the chosen answer and the fall of the rejected one.

    $$ L = -\log\sigma\left(\beta \min(p_w, -\alpha p_l)\right) $$

    $p_w = c - c_0$, $p_l = r - r_0$. The loss falls only if both answers move the right way, so the chosen one cannot
    fall with the rejected one. The defaults are those of the authors' configuration.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    return -logsigmoid(beta * torch.minimum(chosen, -alpha * rejected))


@loss(
    paper="Xie 2024 (MinorDPO), arXiv:2408.09834",
    at_reference=ln2,
    provisional=PEER,
    traps=(
        "the rejected answer has no gradient once it has fallen to the reference's log-prob, nor at the first step",
    ),
)
def minor_dpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""DPO that stops lowering a rejected answer as soon as it is less likely than under the reference.

    $$ L = -\log\sigma\left(\beta\,(p_w - \max(0, p_l))\right) $$

    $p_w = c - c_0$, $p_l = r - r_0$. Provisional: the formula is from another project's code; beta is DPO's.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    return -logsigmoid(beta * (chosen - relu(rejected)))


@loss(
    paper="Asadi 2025 (C2-DPO), arXiv:2502.17507",
    at_reference=ln2,
    provisional=PEER,
    traps=("log-ratios are sums over tokens, so long answers pay a far larger penalty than short ones",),
)
def c2_dpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, weight: NonNegative = 2e-4) -> Tensor:
    r"""DPO with a penalty if the answers' log-ratios do not cancel, so that both cannot fall together.

    $$ L = -\log\sigma(\beta h) + \lambda\,(p_w + p_l)^2, \quad h = p_w - p_l $$

    $p_w = c - c_0$, $p_l = r - r_0$, $\lambda$ is `weight`. Provisional: the formula and the weight of 0.0002 are from
    another project's code; beta is DPO's.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    return -logsigmoid(beta * (chosen - rejected)) + weight * (chosen + rejected) ** 2


def focal_start(params: Any) -> float:
    """Return the logistic loss at a margin of zero, with the weight there."""
    return float(0.5**params.gamma * math.log(2))


@loss(
    paper="Liu 2025 (FocalPO), arXiv:2501.06645",
    at_reference=focal_start,
    provisional=PEER + "; the default of gamma is a placeholder",
    traps=(
        "lowers the weight of wrongly ranked pairs, the opposite of focal loss: neither wrong labels nor hard pairs "
        "count much",
        "its value falls for pairs far on the wrong side while its gradient still points the right way",
    ),
)
def focal_po(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, gamma: NonNegative = 0.05) -> Tensor:
    r"""DPO that weighs pairs by how well the policy ranks them already.

    $$ L = -\mathrm{sg}\left[\sigma(\beta h)^\gamma\right] \log\sigma(\beta h), \quad h = (c - r) - (c_0 - r_0) $$

    $\mathrm{sg}$ stops the gradient; with gamma 0 it is DPO. Provisional: the formula is from another project's code,
    whose gamma is 1; beta is DPO's.
    """
    log_p = logsigmoid(beta * (policy.margin - reference.margin))
    return -torch.exp(gamma * log_p).detach() * log_p


@loss(
    paper="Omura 2024 (H-DPO), arXiv:2411.07595",
    provisional=PEER,
    traps=(
        "the loss at policy = reference is not ln 2: the margins do not cancel unless alpha is 1",
        "its alpha differs from alphapo's and alpha_dpo's",
    ),
)
def h_dpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, alpha: Positive = 0.95) -> Tensor:
    r"""DPO with the policy's entropy weighted by $\alpha$: below 1 the policy becomes sharper than under DPO.

    $$ L = -\log\sigma\left(\beta\,(\alpha (c - r) - (c_0 - r_0))\right) $$

    With alpha 1 it is DPO. Provisional: the formula is from another project's code; alpha 0.95 is a placeholder and
    beta is DPO's.
    """
    return -logsigmoid(beta * (alpha * policy.margin - reference.margin))
