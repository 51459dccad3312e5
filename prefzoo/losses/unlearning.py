"""Losses that make the model forget: they read the rejected answer alone and leave the chosen one to another term.

Add a term that preserves the rest, as the authors do: `npo + sft` trains the chosen answers while it unlearns the
rejected ones.
"""

from __future__ import annotations

import math
from typing import Any

from prefzoo.losses._bounds import Finite, Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid
from prefzoo.types import LogProbs


def npo_start(params: Any) -> float:
    """Return the loss of a log-ratio of zero."""
    return float(2 / params.beta * math.log(2))


@loss(
    paper="Zhang 2024 (NPO), arXiv:2404.05868",
    equation="as in the authors' code",
    at_reference=npo_start,
    grid={"beta": (0.01, 0.1, 0.2, 0.5, 1.0, 5.0)},
    learning_rate=(1e-5,),
    traps=(
        "reads the rejected answer alone: without a second term, like `npo + sft`, the model may unlearn more than "
        "the rejected answers",
        "the factor 2 / beta makes its gradient independent of beta at the start: weights of other terms do not carry "
        "over from dpo",
    ),
)
def npo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""Negative preference optimisation: unlearn the rejected answer, more slowly the further it has fallen.

    $$ L = -\frac{2}{\beta} \log\sigma(-\beta p_l) $$

    $p_l = r - r_0$. For beta near 0 it is gradient ascent on the likelihood, apart from a constant. Beta 0.1 and the
    learning rate are those of the authors' experiments on TOFU, the grid is that of their synthetic ones. Their runs
    add the likelihood of data to retain: put it in the chosen answers, and train `npo + sft`.
    """
    return -2 / beta * logsigmoid(-beta * (policy.rejected - reference.rejected))


@loss(
    paper="Fan 2024 (SimNPO), arXiv:2410.07163",
    equation="as in the authors' code",
    grid={"beta": (0.1, 0.7, 0.75, 2.5, 4.5), "gamma": (0.0, 1.0)},
    learning_rate=(9.5e-6, 1e-5),
    traps=(
        "reads only the rejected answer and no reference: without a second term nothing limits how far the model moves",
        "the authors weigh it 0.1 to 0.14 against the likelihood of data to retain: `0.1375*simnpo + sft`",
        "gamma is subtracted before beta multiplies, unlike SimPO's",
    ),
)
def simnpo(policy: LogProbs, *, beta: Positive = 2.5, gamma: Finite = 0.0) -> Tensor:
    r"""NPO on the mean log-prob of the rejected answer, without a reference, so that long answers are not favoured.

    $$ L = -\frac{2}{\beta} \log\sigma\left(-\beta\,(\bar r + \gamma)\right) $$

    $\bar r$ is the mean log-prob of a token, $\gamma$ a target in nats per token. Beta 2.5 and gamma 0 are those of
    the authors' experiments on TOFU (5%); the grid also has those on MUSE and WMDP.
    """
    return -2 / beta * logsigmoid(-beta * (policy.per_token().rejected + gamma))
