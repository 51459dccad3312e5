"""Plain likelihood: the baseline that every preference loss should beat."""

from __future__ import annotations

from torch import Tensor

from prefzoo.losses._registry import loss
from prefzoo.types import LogProbs


@loss(paper="maximum likelihood on the chosen answers (SFT)")
def sft(policy: LogProbs) -> Tensor:
    r"""Negative log-likelihood of the chosen answer, mean over its tokens; the rejected answer is not used.

    $$ L = -\frac{c}{|w|} $$
    """
    return -policy.per_token().chosen
