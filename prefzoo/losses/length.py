"""Variants of DPO that account for the lengths of the answers: by means instead of sums, or by a penalty per token."""

from __future__ import annotations

from prefzoo.losses._bounds import NonNegative, Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid
from prefzoo.losses.dpo import ln2
from prefzoo.types import LogProbs


@loss(
    paper="Lambert 2024 (Tulu 3), arXiv:2411.15124",
    equation="Eq. 6",
    at_reference=ln2,
    group="length-aware",
    grid={"beta": (2.0, 5.0, 15.0)},
    learning_rate=(5e-7,),
    traps=("TRL's `sigmoid_norm` has the default beta 0.1, fifty times smaller than the Tulu 3 recipe's 5",),
)
def dpo_norm(policy: LogProbs, reference: LogProbs, *, beta: Positive = 5.0) -> Tensor:
    r"""DPO on log-ratios averaged over tokens.

    $$ L = -\log\sigma\left(\beta\left(\frac{c - c_0}{|w|} - \frac{r - r_0}{|l|}\right)\right) $$

    Beta multiplies nats per token. The default of 5 is that of the Tulu 3 recipe, which tried 2 to 15. NeMo's
    `preference_average_log_probs` is the same loss.
    """
    h = policy.per_token().margin - reference.per_token().margin
    return -logsigmoid(beta * h)


@loss(
    paper="Park 2024 (R-DPO), arXiv:2403.19159",
    group="length-aware",
    grid={"alpha": (0.05, 0.1, 0.5, 1.0), "beta": (0.01, 0.05, 0.1)},
    learning_rate=(3e-7, 5e-7, 6e-7, 1e-6),
    traps=(
        "the sign: +alpha(|w| - |l|) pushes longer chosen answers less; tables in the SimPO family print a minus, "
        "which rewards length",
        "not rDPO (see robust)",
    ),
)
def r_dpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, alpha: NonNegative = 0.05) -> Tensor:
    r"""DPO with a penalty of $\alpha$ per token in the reward, so that length alone gains nothing.

    $$ L = -\log\sigma\left(\beta h + \alpha(|w| - |l|)\right), \quad h = (c - r) - (c_0 - r_0) $$

    A longer chosen answer is pushed less. The plus sign follows from the reward $r(x,y) - \alpha|y|$. The grid is
    SimPO's for this loss; alpha 0.05 is its smallest value.
    """
    h = policy.margin - reference.margin
    longer = (policy.chosen_len - policy.rejected_len).to(h.dtype)
    return -logsigmoid(beta * h + alpha * longer)
