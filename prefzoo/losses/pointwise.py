"""Paired losses that score each answer's log-ratio separately instead of through a margin."""

from __future__ import annotations

import math
from typing import Any

from prefzoo.losses._bounds import Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid, torch
from prefzoo.types import LogProbs

POINTWISE = "reward margins are not its objective: compare both log-ratios instead"


def one(_: object) -> float:
    """Return the sum of two sigmoids at zero."""
    return 1.0


def two_ln2(_: object) -> float:
    """Return two logistic losses at zero."""
    return 2 * math.log(2)


@loss(
    paper="Chen 2024 (NCA), arXiv:2402.05369",
    equation="Section 4.1, two answers",
    at_reference=two_ln2,
    grid={"beta": (1e-4, 3e-4, 5e-4, 0.01, 0.05, 0.1)},
    learning_rate=(5e-7, 5e-6),
    traps=(POINTWISE, "published betas run from 0.0003 to 0.1"),
)
def nca_pair(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.01) -> Tensor:
    r"""Noise contrastive alignment: each answer is told apart from samples of the reference.

    $$ L = -\log\sigma(\beta p_w) - \tfrac12 \log\sigma(-\beta p_w) - \tfrac12 \log\sigma(-\beta p_l) $$

    $p_w = c - c_0$, $p_l = r - r_0$. The optimum has a finite log-ratio of the chosen answer. Beta and section are from
    TRL's index of papers; arXiv:2502.01237 finds beta 0.0003 best.
    """
    chosen, rejected = beta * (policy.chosen - reference.chosen), beta * (policy.rejected - reference.rejected)
    return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


@loss(
    paper="Jung 2024 (BCO), arXiv:2404.04656",
    equation="Section 4, without reward shift",
    at_reference=two_ln2,
    grid={"beta": (0.01,)},
    learning_rate=(5e-7,),
    traps=(POINTWISE, "TRL dropped the paper's reward shift in 0.29: this is TRL's, `bco_pair_shift` the paper's"),
)
def bco_pair(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.01) -> Tensor:
    r"""Binary classifier of chosen and rejected answers by their log-ratios, with the threshold at zero.

    $$ L = -\log\sigma(\beta p_w) - \log\sigma(-\beta p_l) $$

    $p_w = c - c_0$, $p_l = r - r_0$. The paper shifts both rewards by their running mean: see `bco_pair_shift`.
    Beta and section are from TRL's index of papers.
    """
    chosen, rejected = beta * (policy.chosen - reference.chosen), beta * (policy.rejected - reference.rejected)
    return -logsigmoid(chosen) - logsigmoid(-rejected)


def squares(params: Any) -> float:
    """Return the squared distances of log-ratios of zero from their targets, +-1 / (2 beta)."""
    return float(2 * (1 / (2 * params.beta)) ** 2)


@loss(
    paper="Wu 2024 (SPPO), arXiv:2405.00675",
    equation="Eq. 4.7 with hard labels",
    at_reference=squares,
    grid={"beta": (0.001,)},
    learning_rate=(5e-7,),
    traps=(
        POINTWISE,
        "the authors average the two squares and use soft win rates; TRL, Liger, ms-swift and this loss sum them, "
        "with hard labels",
        "TRL's default beta of 0.1 puts the targets at 5 nats instead of the paper's 500",
    ),
)
def sppo_hard(policy: LogProbs, reference: LogProbs, *, beta: Positive = 1e-3) -> Tensor:
    r"""Self-play: squared distance of each log-ratio from the value for a certain win or a certain loss.

    $$ L = \left(p_w - \frac{1}{2\beta}\right)^2 + \left(p_l + \frac{1}{2\beta}\right)^2 $$

    $p_w = c - c_0$, $p_l = r - r_0$, $\beta = 1/\eta$; 0.001 is the paper's. The loss is large (500,000 at the
    start); the training loop's clipping bounds its gradient.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    return (chosen - 1 / (2 * beta)) ** 2 + (rejected + 1 / (2 * beta)) ** 2


APO_GRID = (0.001, 0.003, 0.005, 0.1, 2.0)


@loss(
    paper="D'Oosterlinck 2024 (APO), arXiv:2408.06266",
    equation="Eq. 7",
    at_reference=one,
    grid={"beta": APO_GRID},
    learning_rate=(2e-7,),
    traps=(
        POINTWISE,
        "both sigmoids saturate: a pair far on the wrong side has almost no gradient",
        "the spo of another project, -x sigmoid(x), is called bounded there but falls without end; this one is bounded",
    ),
)
def apo_zero(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""Raise the chosen answer and lower the rejected one, each up to saturation: for data better than the model.

    $$ L = 1 - \sigma(\beta p_w) + \sigma(\beta p_l) $$

    $p_w = c - c_0$, $p_l = r - r_0$. Beta 0.1 is the paper's; the grid is that of arXiv:2502.01237.
    """
    chosen, rejected = beta * (policy.chosen - reference.chosen), beta * (policy.rejected - reference.rejected)
    return 1 - torch.sigmoid(chosen) + torch.sigmoid(rejected)


@loss(
    paper="D'Oosterlinck 2024 (APO), arXiv:2408.06266",
    equation="Eq. 8",
    at_reference=one,
    grid={"beta": APO_GRID},
    learning_rate=(2e-7,),
    traps=(
        "lowers the likelihood of chosen answers on purpose: only for data worse than the model",
        "at policy = reference the chosen answer has no gradient: the two terms cancel",
    ),
)
def apo_down(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""Lower the chosen answer, and the rejected one even more: for data worse than the model.

    $$ L = \sigma(\beta p_w) + 1 - \sigma(\beta h) $$

    $p_w = c - c_0$, $h = (c - r) - (c_0 - r_0)$. Beta 0.1 is the paper's.
    """
    chosen, h = policy.chosen - reference.chosen, policy.margin - reference.margin
    return torch.sigmoid(beta * chosen) + 1 - torch.sigmoid(beta * h)
