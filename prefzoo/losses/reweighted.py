"""DPO that weighs the pairs of a step by their losses: towards the typical ones, or towards the worst."""

from __future__ import annotations

import math

from prefzoo.losses._bounds import Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid, torch
from prefzoo.losses.dpo import ln2
from prefzoo.types import LogProbs

LARGEST_WEIGHT = 10.0


@loss(
    paper="Wu 2024 (Dr. DPO), arXiv:2407.07880",
    equation="as in the authors' code",
    at_reference=ln2,
    group="noise-robust",
    grid={"spread": (1.0,), "beta": (0.1,)},
    couples="all pairs of a step share one value, so that those of a large loss count less",
    traps=(
        "depends on the batch size: with one pair it is DPO",
        "the values of a step are all equal: they are the loss of the step, not of a pair",
        "robust to flipped labels, not to a shift of the data: for that see kl_dpo, which weighs the other way",
    ),
)
def dr_dpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, spread: Positive = 1.0) -> Tensor:
    r"""DPO that trusts pairs less the worse they fit, against wrong labels.

    $$ L = -\beta' \log\left(\frac1B \sum_i e^{-\ell_i / \beta'}\right), \quad \ell_i = -\log\sigma(\beta h_i) $$

    $h = (c - r) - (c_0 - r_0)$, the sum is over the $B$ pairs of a step, $\beta'$ is `spread`; for a large one it is
    the mean, DPO. The defaults are those of the authors' instructions.
    """
    each = -logsigmoid(beta * (policy.margin - reference.margin))
    mean = torch.logsumexp(-each / spread, 0) - math.log(len(each))
    return (-spread * mean).expand(len(each))


@loss(
    paper="Xu 2025 (KLDPO), arXiv:2502.01930",
    equation="as in the authors' code",
    at_reference=ln2,
    group="distributional",
    grid={"tau": (0.05, 1.0)},
    learning_rate=(5e-7,),
    couples="a pair's weight depends on the mean loss of the step",
    traps=(
        "depends on the batch size: with one pair it is DPO",
        "pairs with wrong labels have large losses and weigh most: not for noisy data, see dr_dpo",
        "weights do not sum to the number of pairs, so the size of a step depends on how unequal the losses are",
    ),
)
def kl_dpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, tau: Positive = 1.0) -> Tensor:
    r"""DPO that weighs the worst pairs of a step most, for users whose preferences differ from those of the data.

    $$ L_i = \mathrm{sg}\left[\min\left(10, e^{(\ell_i - \bar\ell)/\tau}\right)\right] \ell_i,
       \quad \ell_i = -\log\sigma(\beta h_i) $$

    $h = (c - r) - (c_0 - r_0)$, $\bar\ell$ is the mean of $\ell$ over the step, and $\mathrm{sg}$ stops the gradient.
    Tau 1 is the default of the authors' code, their example has 0.05; beta is DPO's.
    """
    each = -logsigmoid(beta * (policy.margin - reference.margin))
    excess = ((each - each.mean()) / tau).clamp(max=math.log(LARGEST_WEIGHT))
    return torch.exp(excess).detach() * each
