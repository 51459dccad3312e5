"""Losses without a reference model: the answers' own log-probs are compared."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefzoo.losses._bounds import NonNegative, Positive
from prefzoo.losses._registry import loss
from prefzoo.types import LogProbs


@loss(paper="Meng 2024, arXiv:2405.14734", equation="Eq. 6")
def simpo(policy: LogProbs, *, beta: Positive = 2.0, gamma: NonNegative = 1.0) -> Tensor:
    r"""Logistic loss on the margin of mean token log-probs, less a target margin $\gamma$.

    $$ L = -\log\sigma\left(\beta\left(\frac{c}{|w|} - \frac{r}{|l|}\right) - \gamma\right) $$

    `gamma` is the paper's $\gamma$ (the official code's `gamma_beta_ratio` times beta). No NLL term: TRL, ms-swift and
    Liger add one by default, which is another loss.
    """
    h = policy.per_token().margin
    return -logsigmoid(beta * h - gamma)


@loss(paper="Xu 2024, arXiv:2401.08417", equation="Eq. 5")
def cpo(policy: LogProbs, *, beta: Positive = 0.1, alpha: NonNegative = 1.0) -> Tensor:
    r"""DPO with a uniform reference, plus `alpha` times the negative log-likelihood of the chosen answer.

    $$ L = -\log\sigma(\beta(c - r)) - \alpha \frac{c}{|w|} $$

    The likelihood term is a mean over each answer's tokens; TRL takes the mean over all tokens of the micro-batch.
    """
    return -logsigmoid(beta * policy.margin) - alpha * policy.per_token().chosen


@loss(paper="Hong 2024, arXiv:2403.07691", equation="Eq. 6 and 7")
def orpo(policy: LogProbs, *, weight: NonNegative = 0.1) -> Tensor:
    r"""Likelihood of the chosen answer plus `weight` ($\lambda$) times the log odds ratio.

    $$ L = -\bar c - \lambda \log\sigma\left(\mathrm{odds}(\bar c) - \mathrm{odds}(\bar r)\right),
       \quad \mathrm{odds}(x) = x - \log(1 - e^x) $$

    $\bar c, \bar r$ are mean token log-probs. TRL calls the weight `beta`, and its likelihood covers the prompt too.
    """
    means = policy.per_token()
    return -means.chosen - weight * logsigmoid(_log_odds(means.chosen) - _log_odds(means.rejected))


def _log_odds(x: Tensor) -> Tensor:
    """`log(p / (1-p))` for `x = log p <= 0`, with finite gradients as x nears 0 (safe inputs in both branches)."""
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near = x > -math.log(2)
    log1mexp_near = torch.log(-torch.expm1(torch.where(near, x, -0.5)))
    log1mexp_far = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return x - torch.where(near, log1mexp_near, log1mexp_far)
