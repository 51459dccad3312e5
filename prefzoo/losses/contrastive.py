"""Losses that compare the two answers' log-probs without a reference model and without a likelihood term."""

from __future__ import annotations

from prefzoo.losses._bounds import Finite, NonNegative, Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._stable import bounded_expm1, log_odds, mask_first
from prefzoo.losses._torch import Tensor, logsigmoid, relu, torch
from prefzoo.types import LogProbs, TokenLogProbs

ROUNDING = 1e-5  # nats, between log-probs of equal tokens


@loss(
    paper="Meng 2024, arXiv:2405.14734",
    equation="Eq. 6",
    grid={"beta": (2.0, 2.5, 8.0, 10.0), "gamma": (0.3, 0.5, 1.0, 1.2, 1.4, 1.6)},
    learning_rate=(3e-7, 5e-7, 6e-7, 1e-6),
    traps=(
        "TRL, axolotl, ms-swift and Liger add a likelihood term by default: that is cpo_simpo",
        "TRL, Liger and LLaMA-Factory ship beta 0.1 with gamma 0.5: a target of 5 nats per token (papers: 0.1 to 0.8)",
        "no reference restrains it: reasoning scores fall at high learning rates",
    ),
)
def simpo(policy: LogProbs, *, beta: Positive = 2.0, gamma: NonNegative = 1.0) -> Tensor:
    r"""Logistic loss on the margin of mean token log-probs minus a target margin $\gamma$.

    $$ L = -\log\sigma\left(\beta\left(\frac{c}{|w|} - \frac{r}{|l|}\right) - \gamma\right) $$

    `gamma` is the paper's $\gamma$, which is the official code's `gamma_beta_ratio` times beta. There is no likelihood
    term; TRL, ms-swift and Liger add one by default, which makes it another loss (see `cpo_simpo`).
    """
    h = policy.per_token().margin
    return -logsigmoid(beta * h - gamma)


@loss(
    paper="Rafailov 2023, arXiv:2305.18290; as `reference_free` in the authors' code",
    traps=("length matters: the longer answer has the lower sum", "removed from TRL in 0.29"),
)
def dpo_ref_free(policy: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""DPO against a uniform reference: a logistic loss on the plain margin.

    $$ L = -\log\sigma(\beta(c - r)) $$

    Log-probs are sums over tokens. `cpo` is this loss plus a likelihood term.
    """
    return -logsigmoid(beta * policy.margin)


@loss(
    paper="Gupta 2025 (AlphaPO), arXiv:2501.03884",
    grid={"alpha": (-0.5, 0.25, 2.0, 5.0), "beta": (0.5, 2.5), "gamma": (0.1,)},
    learning_rate=(7e-7,),
    traps=(
        "TRL applies its alpha to sums too, where it underflows to NaN beyond about 100 nats",
        "not alpha_dpo, and not the alpha of an f-divergence",
        "published alphas differ: 0.25 in the paper for Mistral, 2 best for mathematics in arXiv:2502.01237",
    ),
)
def alphapo(policy: LogProbs, *, beta: Positive = 2.5, gamma: NonNegative = 0.25, alpha: Finite = 0.25) -> Tensor:
    r"""SimPO with a power of the mean token probability as the reward instead of its logarithm.

    $$ L = -\log\sigma\left(\beta\,(R(\bar c) - R(\bar r)) - \gamma\right),
       \quad R(x) = \frac{1 - e^{-\alpha x}}{\alpha} $$

    $\bar c, \bar r$ are mean token log-probs; $\alpha = 0$ means $R(x) = x$, which is SimPO. Beyond $-\alpha x = 30$
    the exponential is replaced by its tangent. Alpha 0.25 and beta 2.5 are the paper's for Mistral (its Table 3, which
    TRL's index of papers quotes, with gamma 0.1); gamma is in SimPO's range.
    """
    means = policy.per_token()

    def reward(x: Tensor) -> Tensor:
        return x if alpha == 0 else -bounded_expm1(-alpha * x) / alpha

    return -logsigmoid(beta * (reward(means.chosen) - reward(means.rejected)) - gamma)


@loss(
    paper="Wu 2025 (RePO), arXiv:2503.07426",
    equation="Eq. 6",
    grid={"gamma": (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)},
    learning_rate=(6e-7, 8e-7, 1e-6),
    traps=("with a reference, the same ReLU works much worse (the paper's own ablation)",),
)
def repo(policy: LogProbs, *, gamma: NonNegative = 0.5) -> Tensor:
    r"""Hinge on the margin of mean token log-probs, with a target of $\gamma$: SimPO's limit for large beta.

    $$ L = \max\left(0, \gamma - (\bar c - \bar r)\right) $$

    $\bar c, \bar r$ are mean token log-probs. Gamma 0.5 is the paper's default; 0.4 to 0.6 were best. It is in nats per
    token: SimPO's gamma divided by its beta. RePO++ (Eq. 12), which stops the gradient of SimPO's or DPO's loss for
    pairs beyond gamma, is left out: the paper presents it as an exploration beside its own loss.
    """
    return relu(gamma - policy.per_token().margin)


@loss(
    paper="Xiao 2025 (SimPER), arXiv:2502.00883",
    equation="as in the authors' code",
    learning_rate=(3e-7, 1e-6),
    traps=("the gradient is scaled by the probability itself: unlikely answers hardly move",),
)
def simper(policy: LogProbs) -> Tensor:
    r"""Inverse perplexity of the rejected answer minus that of the chosen one; it has no knobs.

    $$ L = -e^{\bar c} + e^{\bar r} $$

    $\bar c, \bar r$ are mean token log-probs. The loss lies between -1 and 1. Learning rates are those of the authors'
    settings for Mistral and Llama 3.
    """
    means = policy.per_token()
    return -torch.exp(means.chosen) + torch.exp(means.rejected)


@loss(
    paper="Gorbatovski 2025 (the aligned form of ORPO), arXiv:2502.01237",
    equation="Section 3.1.2",
    grid={"beta": (0.05, 0.2, 0.5, 0.7, 2.0)},
    learning_rate=(3e-7, 5e-7, 7e-7, 1e-6),
    traps=("needs a model after SFT: unlike orpo, it has no likelihood term",),
)
def orpo_align(policy: LogProbs, *, beta: Positive = 0.5) -> Tensor:
    r"""ORPO's odds-ratio term alone, with a temperature.

    $$ L = -\log\sigma\left(\beta\,(\mathrm{odds}(\bar c) - \mathrm{odds}(\bar r))\right),
       \quad \mathrm{odds}(x) = x - \log(1 - e^x) $$

    $\bar c, \bar r$ are mean token log-probs. Beta 0.5 was the best of 0.05 to 2 on an 8B model.
    """
    means = policy.per_token()
    return -logsigmoid(beta * (log_odds(means.chosen) - log_odds(means.rejected)))


@loss(
    paper="Wang 2024 (ASFT), arXiv:2409.10571; with the temperature of arXiv:2502.01237",
    equation="Section 3.1.2 of the latter",
    grid={"beta": (0.05, 0.1, 0.3, 2.0)},
    learning_rate=(3e-7, 5e-7, 7e-7, 1e-6),
    traps=("scores each answer separately: such losses trail pairwise ones at 7-8B parameters",),
)
def asft(policy: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""Binary classifier on the odds of each answer, without a reference and without a likelihood term.

    $$ L = -\log\sigma(\beta\,\mathrm{odds}(\bar c)) - \log\sigma(-\beta\,\mathrm{odds}(\bar r)) $$

    $\mathrm{odds}(x) = x - \log(1 - e^x)$ of mean token log-probs; at beta 1 it is the cross-entropy of $e^{\bar c}$
    and $1 - e^{\bar r}$. The paper's one-stage form adds `sft`, which is `asft + sft` here.
    """
    means = policy.per_token()
    return -logsigmoid(beta * log_odds(means.chosen)) - logsigmoid(-beta * log_odds(means.rejected))


def unsure_mean(tokens: Tensor, count: Tensor) -> Tensor:
    """Return the mean log-prob of the tokens of each answer that are no more likely than its average token.

    Args:
        tokens: (B, T) log-probs, zero past the end.
        count: (B,) how many tokens each answer has.

    Returns:
        (B,) means. Ties within rounding count, so an answer of equally likely tokens uses all of them.
    """
    inside, lengths = mask_first(tokens, count), count.clamp(min=1)
    average = torch.log(torch.where(inside, tokens, -torch.inf).exp().sum(1) / lengths).detach()
    unsure = inside & (tokens <= average[:, None] + ROUNDING)
    return torch.where(unsure, tokens, 0.0).sum(1) / unsure.sum(1).clamp(min=1)


@loss(
    paper="Yoon 2025 (ConfPO), arXiv:2506.08712",
    equation="as in the authors' code",
    group="token-level",
    grid={"beta": (1.5,), "gamma": (1.6,)},
    learning_rate=(3e-7,),
    traps=(
        "the average is of probabilities, not of log-probs: where the policy is certain of most tokens, only the few "
        "others count",
        "which tokens count changes from step to step, and the value jumps where one joins or leaves",
        "as for simpo, no reference restrains it",
    ),
)
def confpo(policy: TokenLogProbs, *, beta: Positive = 1.5, gamma: NonNegative = 1.6) -> Tensor:
    r"""SimPO on only the tokens of which the policy is less certain than on average.

    $$ L = -\log\sigma\left(\beta(\hat c - \hat r) - \gamma\right), \quad
       \hat c = \mathrm{mean}_{t:\ \pi(y_t) \le m} \log\pi(y_t), \quad m = \mathrm{mean}_t\, \pi(y_t) $$

    $\hat r$ is that of the rejected answer; the choice of tokens carries no gradient. Beta and gamma are those of the
    authors' script.
    """
    chosen = unsure_mean(policy.chosen_tokens, policy.chosen_len)
    rejected = unsure_mean(policy.rejected_tokens, policy.rejected_len)
    return -logsigmoid(beta * (chosen - rejected) - gamma)
