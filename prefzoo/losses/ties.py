"""DPO for data with ties: models of comparison that give equal answers a probability.

A pair is a tie if its scores are equal, or if its row says `tie: true`.
"""

from __future__ import annotations

import math

from prefzoo.losses._bounds import Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid, torch
from prefzoo.types import LogProbs, Scores

TIED = "without a column `tie`, only exactly equal scores are a tie: round a reward model's scores first"
FLAT = "the loss of a tie has its minimum at a margin of zero, where it pulls the policy back to the reference"


@loss(
    paper="Guo 2024 (TODO), arXiv:2411.02442; Chen 2024 (DPO-RK), arXiv:2409.17431",
    equation="as in the authors' code, of the first",
    group="pairwise",
    grid={"alpha": (0.5,), "beta": (0.01,)},
    learning_rate=(5e-7, 1e-6),
    traps=(TIED, FLAT, "alpha decides how often equal answers tie: 24% of the time at 0.5, 76% at 2"),
)
def dpo_rk(
    policy: LogProbs, reference: LogProbs, scores: Scores, *, beta: Positive = 0.01, alpha: Positive = 0.5
) -> Tensor:
    r"""DPO with ties after Rao and Kupper: a preference must exceed a threshold, and a tie stays below it.

    $$ L = -\log\sigma(\beta h - \alpha) \text{ for a preference},\quad
       -\log\left[(e^{2\alpha} - 1)\,\sigma(\beta h - \alpha)\,\sigma(-\beta h - \alpha)\right] \text{ for a tie} $$

    $h = (c - r) - (c_0 - r_0)$; a pair with equal scores, or with `tie: true`, is a tie. $\alpha$ is the threshold, in
    units of $\beta h$; near 0 it is DPO, for pairs that are no ties. The defaults are those of the authors of TODO.
    """
    x = beta * (policy.margin - reference.margin)
    win = logsigmoid(x - alpha)
    tie = math.log(math.expm1(2 * alpha)) + win + logsigmoid(-x - alpha)
    return -torch.where(scores.gap == 0, tie, win)


@loss(
    paper="Chen 2024 (DPO-D), arXiv:2409.17431",
    provisional="Davidson's model of 1970 in place of Bradley and Terry's; the paper's own formula was not read",
    traps=(TIED, FLAT),
)
def dpo_davidson(
    policy: LogProbs, reference: LogProbs, scores: Scores, *, beta: Positive = 0.1, nu: Positive = 1.0
) -> Tensor:
    r"""DPO with ties after Davidson: the nearer the answers, the likelier a tie, without a threshold.

    $$ L = \log\left(1 + e^{-x} + 2\nu e^{-x/2}\right) \text{ for a preference},\quad
       L + \frac{x}{2} - \log 2\nu \text{ for a tie}, \quad x = \beta h $$

    $h = (c - r) - (c_0 - r_0)$; a pair with equal scores, or with `tie: true`, is a tie. $\nu$ is the odds of a tie
    between equal answers; near 0 it is DPO, for pairs that are no ties. Provisional: written from Davidson's model;
    beta is DPO's and nu a placeholder.
    """
    x = beta * (policy.margin - reference.margin)
    tied = math.log(2 * nu) - x / 2
    total = torch.logsumexp(torch.stack((torch.zeros_like(x), -x, tied)), 0)
    return torch.where(scores.gap == 0, total - tied, total)
