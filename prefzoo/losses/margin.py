"""Losses that stop pushing once a margin is reached."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu

from prefzoo.losses._bounds import Positive
from prefzoo.losses._registry import loss
from prefzoo.types import LogProbs


def one(_: object) -> float:
    """The hinge at a margin of zero."""
    return 1.0


@loss(paper="Liu 2023 (RSO), arXiv:2309.06657", equation="Eq. 11, hinge-norm", at_reference=one)
def hinge(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.05) -> Tensor:
    r"""Hinge on the log-ratio margin: no gradient once $h$ exceeds $1/\beta$ nats.

    $$ L = \max(0, 1 - \beta h), \quad h = (c - r) - (c_0 - r_0) $$

    RSO's hinge-norm, as TRL's `hinge`; not SLiC-HF, which has no reference, another margin and an SFT term.
    """
    h = policy.margin - reference.margin
    return relu(1 - beta * h)
