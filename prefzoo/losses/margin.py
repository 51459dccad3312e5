"""Other functions of DPO's margin: hinges, squares, exponentials."""

from __future__ import annotations

from prefzoo.losses._bounds import Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._stable import bounded_exp
from prefzoo.losses._torch import Tensor, relu, torch
from prefzoo.types import LogProbs

GPO = "from general knowledge of these losses; a third party's code agrees; not checked against the paper's table"


def one(_: object) -> float:
    """Return the hinge, its square or the exponential at a margin of zero."""
    return 1.0


def quarter(_: object) -> float:
    """Return the Savage loss at a margin of zero."""
    return 0.25


@loss(
    paper="Liu 2023 (RSO), arXiv:2309.06657",
    equation="Eq. 11, hinge-norm",
    at_reference=one,
    grid={"beta": (0.05, 0.1)},
    traps=(
        "sometimes called SLiC-HF, which is another loss: slic_hf",
        "LLaMA-Factory's `hinge` trains the logistic loss with the TRL versions that it allows",
    ),
)
def hinge(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.05) -> Tensor:
    r"""Hinge loss on the log-ratio margin: no gradient once $h$ exceeds $1/\beta$ nats.

    $$ L = \max(0, 1 - \beta h), \quad h = (c - r) - (c_0 - r_0) $$

    This is RSO's hinge-norm and TRL's `hinge`. SLiC-HF is another loss: it has no reference, another margin and a
    likelihood term (see `slic_hf`).
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
    r"""Exponential loss of the margin, as in boosting.

    $$ L = e^{-\beta h}, \quad h = (c - r) - (c_0 - r_0) $$

    Provisional: the formula is not yet checked against the paper's table. Beyond $-\beta h = 30$ the exponential is
    replaced by its tangent, so that value and gradient stay finite. Beta is DPO's.
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
    r"""Truncated quadratic loss: the square of the hinge.

    $$ L = \max(0, 1 - \beta h)^2, \quad h = (c - r) - (c_0 - r_0) $$

    Provisional: the formula is not yet checked against the paper's table. Beta is DPO's. The untruncated square is
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
    r"""Savage loss: bounded, so that pairs far on the wrong side lose their influence.

    $$ L = \frac{1}{(1 + e^{\beta h})^2} = \sigma(-\beta h)^2, \quad h = (c - r) - (c_0 - r_0) $$

    Provisional: the formula is not yet checked against the paper's table. Beta is DPO's.
    """
    h = policy.margin - reference.margin
    return torch.sigmoid(-beta * h) ** 2
