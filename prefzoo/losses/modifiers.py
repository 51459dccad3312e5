"""Modifiers: functions that change any loss, through the log-probs that it is given or the values that it returns.

Modifiers of log-probs act first, in the order in which a variant lists them, then the loss, then modifiers of values,
again in their order. A modifier of log-probs after one of values is refused, since it would not act there. A modified
sum is modified as a whole: all its terms are given the same log-probs, and the values are those of the sum.

Some losses are dpo with one change (`d2po`, `ld_dpo`, `focal_po`, `wpo`). They stay losses: the change is a part of
their formula, or is not known to help others.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from prefzoo.losses._bounds import NonNegative, Positive
from prefzoo.losses._modifier_registry import modifier
from prefzoo.losses._torch import Tensor, torch
from prefzoo.types import TokenAnswers, TokenLogProbs

LARGEST_WEIGHT = 10.0
NonPositive = Annotated[float, Field(le=0, allow_inf_nan=False)]


@modifier(
    paper="Liu 2025 (humanline), arXiv:2509.24207",
    equation="as in the authors' code",
    at_reference=lambda value, _: value,
    grid={"low": (-1.0,), "high": (1.5,)},
    traps=(
        "a token beyond the range has no gradient until the reference follows, so use it with train.sync_reference; "
        "the authors copy the weights just before each update: alpha: 1, every: 1, when: before",
        "with every: 1, alpha: 1 and when: after, the reference is the policy at each step, and nothing is clamped",
        "the KL of every token that tdpo1 and tdpo2 read is not clamped",
    ),
)
def humanline(
    policy: TokenLogProbs | TokenAnswers,
    reference: TokenLogProbs | TokenAnswers,
    *,
    low: NonPositive = -1.0,
    high: NonNegative = 1.5,
) -> TokenLogProbs | TokenAnswers:
    r"""Clamp how far each token is from the reference before the loss sees it, since people overweight extremes.

    $$ c = \sum_t \left(q_t + \min(\max(p_t - q_t, a), b)\right) $$

    $p_t$ and $q_t$ are the log-probs of token $t$ of the chosen answer under policy and reference, $a$ is `low`, $b$
    is `high`, in nats. Rejected, single and KTO's mismatched answers are clamped in the same way. The defaults are the
    authors'.
    """

    def clamped(own: Tensor, base: Tensor) -> Tensor:
        return base + (own - base).clamp(low, high)

    return policy.map_tokens(clamped, reference)  # type: ignore[arg-type] # both are of pairs, or of single answers


@modifier(
    paper="Wu 2024 (Dr. DPO), arXiv:2407.07880",
    equation="as in the authors' code",
    at_reference=lambda value, _: value,
    grid={"beta": (1.0,)},
    pairs_only=True,
    excludes=("kl",),
    couples="all pairs of a step share one value, in which pairs of a large loss count less",
    traps=(
        "depends on the batch size: with one pair it changes nothing",
        "the values of a step are all equal: they are the loss of the step, not of a pair",
        "robust to flipped labels, not to a shift of the data: for that see kl, which weighs the other way",
        "its beta is the authors' beta', not the loss's beta",
    ),
)
def dr(values: Tensor, *, beta: Positive = 1.0) -> Tensor:
    r"""Weigh a pair less the worse it fits, which resists wrong labels (distributionally robust DPO).

    $$ L = -\beta' \log\left(\frac1B \sum_i e^{-\ell_i / \beta'}\right) $$

    $\ell_i$ is the loss of pair $i$ of the $B$ pairs of a step, over all passes and processes. $\beta'$ is `beta`; for
    a large one $L$ is the mean of the losses. The default is that of the authors' instructions, with `dpo`.
    """
    mean = torch.logsumexp(-values / beta, 0) - math.log(len(values))
    return (-beta * mean).expand(len(values))


@modifier(
    paper="Xu 2025 (KLDPO), arXiv:2502.01930",
    equation="as in the authors' code",
    at_reference=lambda value, _: value,
    grid={"tau": (0.05, 1.0)},
    learning_rate=(5e-7,),
    pairs_only=True,
    excludes=("dr",),
    couples="a pair's weight depends on the mean loss of the step",
    traps=(
        "depends on the batch size: with one pair it changes nothing",
        "pairs with wrong labels have large losses and weigh most: not for noisy data, see dr",
        "weights do not sum to the number of pairs, so the size of a step depends on how unequal the losses are",
    ),
)
def kl(values: Tensor, *, tau: Positive = 1.0) -> Tensor:
    r"""Weigh the worst pairs of a step most, for users whose preferences differ from those of the data.

    $$ L_i = \mathrm{sg}\left[\min\left(10, e^{(\ell_i - \bar\ell)/\tau}\right)\right] \ell_i $$

    $\ell_i$ is the loss of pair $i$, $\bar\ell$ the mean over the step, and $\mathrm{sg}$ stops the gradient. Tau 1 is
    the default of the authors' code; their example, with `dpo`, has 0.05.
    """
    excess = ((values - values.mean()) / tau).clamp(max=math.log(LARGEST_WEIGHT))
    return torch.exp(excess).detach() * values
