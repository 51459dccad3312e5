"""Likelihood of the chosen answer, and losses that include it as a term.

`sft` here is the mean over each answer's own tokens. Other libraries use four other conventions (a mean over all tokens
of the micro-batch, with or without the prompt or padding, and sums), so weights do not carry over.

`tpo` (arXiv:2405.16681) needs a third answer, the gold one, and `iopo` (arXiv:2411.06208) two prompts with two answers
each. Pairs cannot hold them, so they are left out. `csft` adds a control token before the prompt and is otherwise
`sft`: that is a preparation of the data, not a loss.
"""

from __future__ import annotations

from prefzoo.losses._bounds import NonNegative, Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._stable import log_odds
from prefzoo.losses._torch import Tensor, logsigmoid, relu
from prefzoo.types import LogProbs

MEAN = (
    "the likelihood term is a mean over each answer's tokens; other libraries normalise otherwise, with other weights"
)


@loss(
    paper="maximum likelihood on the chosen answers (SFT)",
    group="reference-free",
    learning_rate=(5e-6, 2e-5),
    traps=("TRL takes the mean over all tokens of the micro-batch: equal only for answers of equal length",),
)
def sft(policy: LogProbs) -> Tensor:
    r"""Negative log-likelihood of the chosen answer, averaged over its tokens; the rejected answer is not used.

    $$ L = -\frac{c}{|w|} $$

    This is the baseline that every preference loss should beat.
    """
    return -policy.per_token().chosen


@loss(
    paper="Xu 2024, arXiv:2401.08417",
    equation="Eq. 5",
    group="sft-augmented",
    grid={"beta": (0.01, 0.05, 0.1), "alpha": (1.0,)},
    learning_rate=(3e-7, 5e-7, 6e-7, 1e-6),
    traps=(MEAN,),
)
def cpo(policy: LogProbs, *, beta: Positive = 0.1, alpha: NonNegative = 1.0) -> Tensor:
    r"""DPO with a uniform reference, plus `alpha` times the negative log-likelihood of the chosen answer.

    $$ L = -\log\sigma(\beta(c - r)) - \alpha \frac{c}{|w|} $$

    The likelihood term is a mean over each answer's tokens; TRL takes the mean over all tokens of the micro-batch.
    """
    return -logsigmoid(beta * policy.margin) - alpha * policy.per_token().chosen


@loss(
    paper="Xu 2024 (CPO-SimPO), github.com/fe1ixxu/CPO_SIMPO",
    equation="as in the authors' README",
    group="sft-augmented",
    grid={"alpha": (0.05, 1.0), "beta": (10.0,), "gamma": (5.4,)},
    learning_rate=(1e-6,),
    traps=("TRL and ms-swift call this loss `simpo`; the paper's SimPO has no likelihood term", MEAN),
)
def cpo_simpo(policy: LogProbs, *, beta: Positive = 2.0, gamma: NonNegative = 1.0, alpha: NonNegative = 1.0) -> Tensor:
    r"""SimPO plus `alpha` times the negative log-likelihood of the chosen answer.

    $$ L = -\log\sigma(\beta(\bar c - \bar r) - \gamma) - \alpha\,\bar c $$

    $\bar c, \bar r$ are mean token log-probs. Beta and gamma are those of `simpo`; alpha 1 is that of
    ms-swift and of the authors' formula. Their run has beta 10, gamma 5.4 and alpha 0.05.
    """
    means = policy.per_token()
    return -logsigmoid(beta * means.margin - gamma) - alpha * means.chosen


@loss(
    paper="Hong 2024, arXiv:2403.07691",
    equation="Eq. 6 and 7",
    group="sft-augmented",
    grid={"weight": (0.1, 0.2, 0.25, 0.5, 1.0, 2.0)},
    learning_rate=(5e-6, 6e-6, 8e-6, 1e-5),
    traps=(
        "its likelihood term includes the prompt in TRL and in the authors' code, but not here",
        "log(1 - e^x) is infinite in bf16, or near x = 0 in a naive implementation",
    ),
)
def orpo(policy: LogProbs, *, weight: NonNegative = 0.1) -> Tensor:
    r"""Negative log-likelihood of the chosen answer plus $\lambda$ (`weight`) times an odds-ratio loss.

    $$ L = -\bar c - \lambda \log\sigma\left(\mathrm{odds}(\bar c) - \mathrm{odds}(\bar r)\right),
       \quad \mathrm{odds}(x) = x - \log(1 - e^x) $$

    $\bar c, \bar r$ are mean token log-probs. TRL calls the weight `beta`, and its likelihood includes the prompt.
    """
    means = policy.per_token()
    return -means.chosen - weight * logsigmoid(log_odds(means.chosen) - log_odds(means.rejected))


@loss(
    paper="Zhao 2023 (SLiC-HF), arXiv:2305.10425",
    equation="Section 2",
    group="sft-augmented",
    grid={"delta": (0.1, 0.5, 1.0, 2.0), "weight": (0.1, 0.5, 1.0, 10.0)},
    learning_rate=(3e-7, 5e-7, 6e-7, 1e-6, 1e-4),
    traps=(
        "not `hinge`, which has a reference and no likelihood term",
        "HALOs' version adds tensors of different shapes and averages over padding",
    ),
)
def slic_hf(policy: LogProbs, *, delta: Positive = 1.0, weight: NonNegative = 0.1) -> Tensor:
    r"""Hinge on the plain margin with a target of $\delta$ nats, plus $\lambda$ (`weight`) times a likelihood term.

    $$ L = \max(0, \delta - c + r) - \lambda c $$

    Both terms are sums over tokens. The defaults are those of HALOs, the grid is that of SimPO's comparison. The
    learning rate of 1e-4 is the paper's, quoted with the section in TRL's index of papers.
    """
    return relu(delta - policy.chosen + policy.rejected) - weight * policy.chosen


@loss(
    paper="Yuan 2023 (RRHF), arXiv:2304.05302",
    equation="as in the authors' code, for two answers",
    group="sft-augmented",
    grid={"weight": (0.1, 0.5, 1.0, 10.0)},
    learning_rate=(3e-7, 5e-7, 6e-7, 1e-6, 2e-5),
    traps=(MEAN,),
)
def rrhf(policy: LogProbs, *, weight: NonNegative = 1.0) -> Tensor:
    r"""Hinge without a target on mean token log-probs, plus $\lambda$ (`weight`) times a likelihood term.

    $$ L = \max(0, \bar r - \bar c) - \lambda\,\bar c $$

    $\bar c, \bar r$ are mean token log-probs. The authors' code sums the hinge over all pairs of a ranked list, which
    is this loss for two answers. Weight 1 and learning rate 2e-5 are their script's; the grid is that of SimPO's
    comparison.
    """
    means = policy.per_token()
    return relu(-means.margin) - weight * means.chosen


@loss(
    paper="Song 2023 (PRO), arXiv:2306.17492",
    equation="as in the authors' code, for two answers",
    group="sft-augmented",
    learning_rate=(5e-6,),
    traps=(
        "the authors' code multiplies the margin by the gap of two rewards; here the factor is 1",
        "its likelihood term is a sum with weight 0.05 in the authors' code, a mean here: the weights are not "
        "comparable",
    ),
)
def pro(policy: LogProbs, *, weight: NonNegative = 1.0) -> Tensor:
    r"""Logistic loss on the margin of mean token log-probs, plus $\lambda$ (`weight`) times a likelihood term.

    $$ L = -\log\sigma(\bar c - \bar r) - \lambda\,\bar c $$

    $\bar c, \bar r$ are mean token log-probs. The authors' code ranks lists of answers; with two, and without rewards
    to scale the margin, its first term is this.
    """
    means = policy.per_token()
    return -logsigmoid(means.margin) - weight * means.chosen


@loss(
    paper="Liu 2024 (RPO), arXiv:2405.16436; Pang 2024 (iterative RPO), arXiv:2404.19733",
    equation="Eq. 1 of the second",
    group="sft-augmented",
    grid={"alpha": (0.005, 0.2, 0.25, 0.5, 1.0, 2.0), "beta": (0.01, 0.1)},
    learning_rate=(5e-7, 7e-7),
    traps=("three losses are called RPO: for the reward-aware ones see rpo_bwd_kl, rpo_fwd_kl and rpo_sq", MEAN),
)
def rpo(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, alpha: NonNegative = 1.0) -> Tensor:
    r"""DPO plus `alpha` times the negative log-likelihood of the chosen answer.

    $$ L = -\log\sigma(\beta h) - \alpha \frac{c}{|w|}, \quad h = (c - r) - (c_0 - r_0) $$

    Beta 0.1 and alpha 1 are those of iterative RPO, which tried alpha 0.25 to 2 and divides the likelihood by the
    length as here. Regularised RPO uses beta 0.01 and alpha 0.005, Llama 3.1 beta 0.1 and alpha 0.2.
    """
    h = policy.margin - reference.margin
    return -logsigmoid(beta * h) - alpha * policy.per_token().chosen


@loss(
    paper="Wang 2024 (MPO), arXiv:2411.10442",
    group="sft-augmented",
    learning_rate=(5e-6,),
    traps=(
        "the paper trained its quality term with BCO's reward shift: that is 0.8*dpo + 0.2*bco_pair_shift + sft",
        MEAN,
    ),
)
def mpo(
    policy: LogProbs,
    reference: LogProbs,
    *,
    beta: Positive = 0.1,
    preference: NonNegative = 0.8,
    quality: NonNegative = 0.2,
    generation: NonNegative = 1.0,
) -> Tensor:
    r"""A weighted sum of `dpo` (preference), `bco_pair` (quality) and `sft` (generation).

    $$ L = -w_p \log\sigma(\beta h) - w_q\left[\log\sigma(\beta p_w) + \log\sigma(-\beta p_l)\right]
       - w_g \frac{c}{|w|} $$

    $p_w = c - c_0$, $p_l = r - r_0$, $h = p_w - p_l$; weights 0.8, 0.2 and 1 are the paper's. Other mixes need no new
    loss: `0.8*dpo + 0.2*bco_pair + sft` gives each term its own beta.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    preferred = -logsigmoid(beta * (chosen - rejected))
    judged = -logsigmoid(beta * chosen) - logsigmoid(-beta * rejected)
    return preference * preferred + quality * judged - generation * policy.per_token().chosen
