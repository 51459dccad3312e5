"""Other convex or bounded functions of DPO's margin: hinges, squares, exponentials."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from prefzoo.losses._bounds import Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._stable import bounded_exp
from prefzoo.types import LogProbs

GPO = "general knowledge of these surrogates, and a third party's code agrees; not checked against the paper's table"


def one(_: object) -> float:
    """The hinge, its square and the exponential at a margin of zero."""
    return 1.0


def quarter(_: object) -> float:
    """Savage at a margin of zero."""
    return 0.25


@loss(
    paper="Liu 2023 (RSO), arXiv:2309.06657",
    equation="Eq. 11, hinge-norm",
    at_reference=one,
    grid={"beta": (0.05, 0.1)},
    traps=(
        "not SLiC-HF, whose name it bears in places: that is slic_hf",
        "LLaMA-Factory's `hinge` trains the logistic loss with the TRL versions that it allows",
    ),
)
def hinge(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.05) -> Tensor:
    r"""Hinge on the log-ratio margin: no gradient once $h$ exceeds $1/\beta$ nats.

    $$ L = \max(0, 1 - \beta h), \quad h = (c - r) - (c_0 - r_0) $$

    RSO's hinge-norm, as TRL's `hinge`; not SLiC-HF, which has no reference, another margin and an SFT term.
    """
    h = policy.margin - reference.margin
    return relu(1 - beta * h)


@loss(
    paper="Tang 2024 (GPO), arXiv:2402.05749",
    at_reference=one,
    provisional=GPO,
    traps=("one pair on the wrong side can outweigh the batch",),
)
def gpo_exp(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""Exponential (boosting) loss of the margin.

    $$ L = e^{-\beta h}, \quad h = (c - r) - (c_0 - r_0) $$

    Provisional: the formula is not yet checked against the paper's table. Beyond $-\beta h = 30$ the exponential goes
    on as its tangent, so that value and gradient stay finite. Beta as in DPO.
    """
    h = policy.margin - reference.margin
    return bounded_exp(-beta * h)


@loss(
    paper="Tang 2024 (GPO), arXiv:2402.05749",
    at_reference=one,
    provisional=GPO,
    traps=("no gradient once beta h exceeds 1",),
)
def gpo_quadratic(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""Truncated quadratic: the square of the hinge.

    $$ L = \max(0, 1 - \beta h)^2, \quad h = (c - r) - (c_0 - r_0) $$

    Provisional: the formula is not yet checked against the paper's table. Beta as in DPO. The untruncated square is
    `ipo`.
    """
    h = policy.margin - reference.margin
    return relu(1 - beta * h) ** 2


@loss(
    paper="Tang 2024 (GPO), arXiv:2402.05749; Masnadi-Shirazi 2008 (SavageBoost)",
    at_reference=quarter,
    provisional=GPO,
    traps=("bounded: a pair far on the wrong side has almost no gradient and is given up",),
)
def gpo_savage(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""Savage loss: bounded, so that hopeless pairs stop counting.

    $$ L = \frac{1}{(1 + e^{\beta h})^2} = \sigma(-\beta h)^2, \quad h = (c - r) - (c_0 - r_0) $$

    Provisional: the formula is not yet checked against the paper's table. Beta as in DPO.
    """
    h = policy.margin - reference.margin
    return torch.sigmoid(-beta * h) ** 2
