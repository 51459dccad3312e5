"""Losses of single answers, each marked as desirable or not. `Answers.from_pairs` turns pairs into single answers.

`kto_pair`, which measured each half of a pair against the other half, is left out: its authors removed it from the
paper, and TRL removed it as well. `kto` on `Answers.from_pairs` replaces it.
"""

from __future__ import annotations

import math

from prefzoo.losses._bounds import InnerShare, Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid, torch
from prefzoo.losses.batch import RunningMean
from prefzoo.losses.dpo import ln2
from prefzoo.types import Answers, Mismatched


@loss(
    paper="Ethayarajh 2024, arXiv:2402.01306",
    equation="Eq. 7",
    grid={"beta": (0.01, 0.05, 0.1, 0.3), "desirable": (1.0, 1.33, 1.5)},
    learning_rate=(5e-7, 5e-6),
    couples="all answers of a step share one z0, estimated from its mismatched prompts and answers",
    traps=(
        "z0 needs mismatched rows, at least 2 shuffled answers per batch; one row paired with itself gives no estimate",
        "the mean over processes comes before the clamp at 0; the other order is biased upwards",
        "needs a learning rate 2 to 10 times DPO's, and weights that balance the two classes",
    ),
)
def kto(
    policy: Answers,
    reference: Answers,
    mismatched: Mismatched,
    *,
    beta: Positive = 0.1,
    desirable: Positive = 1.0,
    undesirable: Positive = 1.0,
) -> Tensor:
    r"""Prospect theory: value of each answer's log-ratio relative to the policy's average drift from the reference.

    $$ L = \lambda_D\,(1 - \sigma(\beta(p - z_0))) \text{ for a desirable answer},\quad
       \lambda_U\,(1 - \sigma(\beta(z_0 - p))) \text{ for another} $$

    $p$ is the log-ratio of the sums; $z_0 = \max(0, \mathrm{mean}\,[\log\pi - \log\pi_0])$ over the mismatched rows,
    without gradient. Weights of 1 suit balanced classes: $\lambda_D n_D / (\lambda_U n_U)$ should be between 1 and 1.5.
    """
    p = policy.logps - reference.logps
    z0 = (mismatched.policy - mismatched.reference).mean().detach().clamp(min=0)
    good = desirable * (1 - torch.sigmoid(beta * (p - z0)))
    bad = undesirable * (1 - torch.sigmoid(beta * (z0 - p)))
    return torch.where(policy.desirable, good, bad)


@loss(
    paper="Jung 2024 (BCO), arXiv:2404.04656",
    equation="Section 4",
    at_reference=ln2,
    grid={"beta": (0.1,)},
    learning_rate=(5e-7,),
    couples="all answers of a step share the shift, the running mean of the rewards up to and including this step",
    traps=(
        "the paper's weights for rejected answers of another distribution need a classifier and are left out",
        "implementations disagree on whether the shift is a mean over all steps or a moving mean",
    ),
)
def bco(policy: Answers, reference: Answers, state: RunningMean, *, beta: Positive = 0.1) -> tuple[Tensor, RunningMean]:
    r"""Binary classifier of answers by their rewards, with their running mean as the threshold.

    $$ L = -\log\sigma(\beta p - \delta) \text{ for a desirable answer},\quad
       -\log\sigma(-(\beta p - \delta)) \text{ for another} $$

    $p$ is the log-ratio of the sums, $\delta$ the mean of $\beta p$ over all answers so far, without gradient. Beta
    0.1 is that of TRL's former trainer.
    """
    reward = beta * (policy.logps - reference.logps)
    state = state.updated(reward)
    sign = torch.where(policy.desirable, 1.0, -1.0)
    return -logsigmoid(sign * (reward - state.mean)), state


@loss(
    paper="D'Oosterlinck 2024 (APO), arXiv:2408.06266",
    equation="Eq. 7, one answer at a time",
    at_reference=lambda _: 0.5,
    grid={"beta": (0.1,)},
    learning_rate=(2e-7,),
    traps=("both sides saturate: an answer far on the wrong side has almost no gradient",),
)
def apo_zero_unpaired(policy: Answers, reference: Answers, *, beta: Positive = 0.1) -> Tensor:
    r"""`apo_zero` for single answers, which is KTO without the drift $z_0$.

    $$ L = 1 - \sigma(\beta p) \text{ for a desirable answer},\quad \sigma(\beta p) \text{ for another} $$

    $p$ is the log-ratio of the sums. Beta 0.1 is the paper's.
    """
    value = torch.sigmoid(beta * (policy.logps - reference.logps))
    return torch.where(policy.desirable, 1 - value, value)


@loss(
    paper="Higuchi 2025 (DDRO), arXiv:2505.07558",
    at_reference=lambda _: 0.0,
    traps=(
        "unbounded below: the loss of good answers is their likelihood, so watch whether the others keep falling",
        "assumes equal numbers of good and bad answers, and a reference between the distributions of both",
    ),
    provisional="read in another project's code, as gradients with a largest value, not in the paper",
)
def ddro(policy: Answers, reference: Answers, *, slope: Positive = 20.0) -> Tensor:
    r"""Direct density ratio: a classifier of good and bad answers, if the reference is the even mixture of both.

    $$ L = -p \ \text{(desirable)}, \quad -\log(2 - e^{p}) \ \text{(undesirable)} $$

    $p = \log\pi - \log\pi_0$. The second is infinite at $p = \log 2$: where its slope reaches the knob `slope`, it
    continues as a straight line. Provisional: read only as gradients, at most 20, in another project's code, which
    takes twice the reference minus the policy as the distribution of bad answers.
    """
    p = policy.logps - reference.logps
    edge = math.log(2 * slope / (1 + slope))
    bad = -torch.log(2 - torch.exp(p.clamp(max=edge))) + slope * (p - edge).clamp(min=0)
    return torch.where(policy.desirable, -p, bad)


@loss(
    paper="Takahashi 2026 (RDRO), arXiv:2604.04410",
    equation="as in the authors' code",
    grid={"alpha": (0.39,)},
    learning_rate=(5e-7,),
    traps=(
        "alpha is the share of good answers in the data, not a strength: 0.5 for pairs, else count them",
        "there is no beta: the optimum of a good answer's log-ratio is -log alpha nats for the whole answer, however "
        "long it is, so a high learning rate oversteps it",
    ),
)
def rdro(policy: Answers, reference: Answers, *, alpha: InnerShare = 0.5) -> Tensor:
    r"""Relative density ratio of good answers to all answers: like `ddro`, without a model of preferences, but bounded.

    $$ L = (1 + \alpha) \log(1 + e^p) - p \text{ for a desirable answer},\quad
       (1 - \alpha) \log(1 + e^p) \text{ for another} $$

    $p$ is the log-ratio of the sums, $\alpha$ the share of desirable answers in the data. The authors use 0.39 for
    UltraFeedback; 0.5 is the default of their code.
    """
    p = policy.logps - reference.logps
    rising = -logsigmoid(-p)
    return torch.where(policy.desirable, (1 + alpha) * rising - p, (1 - alpha) * rising)
