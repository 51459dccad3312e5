"""Losses of single tokens, of statistics over the vocabulary, or of the KL at every position."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prefzoo.losses._bounds import NonNegative, Positive, Seed, Share, Vocabulary
from prefzoo.losses._registry import loss
from prefzoo.losses._stable import log1mexp, mask_first
from prefzoo.losses._torch import Tensor, logsigmoid, torch
from prefzoo.losses.dpo import ln2
from prefzoo.types import LogProbs, TokenKL, TokenLogProbs, VocabLogProbs

LEAST_ENTROPY = 1e-6


def discounted_margin(pairs: TokenLogProbs, alpha: float) -> Tensor:
    """Return the (B,) margins of sums in which tokens beyond the shorter answer's length are weighted by `alpha`."""
    shared = torch.minimum(pairs.chosen_len, pairs.rejected_len)
    sides = [
        torch.where(mask_first(tokens, shared), tokens, alpha * tokens).sum(1)
        for tokens in (pairs.chosen_tokens, pairs.rejected_tokens)
    ]
    return sides[0] - sides[1]


@loss(
    paper="Liu 2024 (LD-DPO), arXiv:2409.06411",
    at_reference=ln2,
    group="token-level",
    grid={"alpha": (0.5,)},
    learning_rate=(5e-7,),
    traps=("TRL up to 0.28, LLaMA-Factory and ms-swift weight only the policy's tokens: that is ld_dpo_policy",),
)
def ld_dpo(policy: TokenLogProbs, reference: TokenLogProbs, *, beta: Positive = 0.1, alpha: Share = 0.5) -> Tensor:
    r"""DPO that weights the tokens beyond the shorter answer's length by $\alpha$, which rewards length less.

    $$ L = -\log\sigma(\beta h), \quad h = (\tilde c - \tilde r) - (\tilde c_0 - \tilde r_0),
       \quad \tilde c = \sum_{t \le m} c_t + \alpha \sum_{t > m} c_t, \quad m = \min(|w|, |l|) $$

    Policy and reference are weighted alike, so the margin is zero at policy = reference, as in TRL since 0.29.
    Alpha 0.5 is the published value; alpha 1 is DPO.
    """
    return -logsigmoid(beta * (discounted_margin(policy, alpha) - discounted_margin(reference, alpha)))


@loss(
    paper="Liu 2024 (LD-DPO), arXiv:2409.06411; as in LLaMA-Factory, ms-swift and TRL up to 0.28",
    group="token-level",
    grid={"alpha": (0.5,)},
    traps=("the margin is not zero at policy = reference: pairs of unequal lengths start nats away from it",),
)
def ld_dpo_policy(policy: TokenLogProbs, reference: LogProbs, *, beta: Positive = 0.1, alpha: Share = 0.5) -> Tensor:
    r"""`ld_dpo` with weights on the policy's tokens only; the reference's sums have none.

    $$ L = -\log\sigma(\beta h), \quad h = (\tilde c - \tilde r) - (c_0 - r_0),
       \quad \tilde c = \sum_{t \le m} c_t + \alpha \sum_{t > m} c_t, \quad m = \min(|w|, |l|) $$

    This is the other reading of the paper, which several libraries ship. Alpha is that of `ld_dpo`.
    """
    return -logsigmoid(beta * (discounted_margin(policy, alpha) - reference.margin))


@dataclass(frozen=True)
class Draws:
    """The number of steps that have drawn tokens, so that the next step draws others."""

    step: Tensor

    @classmethod
    def start(cls) -> Draws:
        """Return the state before the first step."""
        return cls(torch.zeros((), dtype=torch.int64))


def _scramble(x: Tensor) -> Tensor:
    """Hash int64 to int64 by the finaliser of splitmix64; multiplication wraps around."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def sample_positions(pairs: LogProbs, length: Tensor, width: int, key: Tensor) -> Tensor:
    """Draw min(|w|, |l|) of each answer's positions without replacement.

    Args:
        pairs: Log-probs of B pairs, for their lengths.
        length: (B,) tokens of the answers to draw from.
        width: Number of positions of the result.
        key: Hash of seed and step, an int64 scalar.

    Returns:
        (B, width) mask of the drawn positions.
    """
    positions = torch.arange(width, device=length.device)
    row = _scramble(_scramble(key.to(length.device) + pairs.chosen_len) + pairs.rejected_len)
    lots = _scramble(row[:, None] + positions)
    lots = torch.where(positions < length[:, None], lots, torch.iinfo(torch.int64).max)
    rank: Tensor = lots.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return rank < torch.minimum(pairs.chosen_len, pairs.rejected_len)[:, None]


@loss(
    paper="Lu 2024 (SamPO), arXiv:2406.10957",
    equation="Eq. 10",
    at_reference=ln2,
    group="token-level",
    grid={"beta": (0.1, 0.5)},
    learning_rate=(4e-7, 1e-6),
    traps=(
        "the authors' code draws other tokens for the reference than for the policy: noise at policy = reference",
        "its value is random: compare means over steps, not single steps",
    ),
)
def sampo(
    policy: TokenLogProbs, reference: TokenLogProbs, state: Draws, *, beta: Positive = 0.1, seed: Seed = 0
) -> tuple[Tensor, Draws]:
    r"""DPO on equally many tokens of both answers: the longer one's are drawn at random, again at each step.

    $$ L = -\log\sigma(\beta h), \quad h = \sum_{t \in S_w} (c_t - c_{0,t}) - \sum_{t \in S_l} (r_t - r_{0,t}),
       \quad |S_w| = |S_l| = \min(|w|, |l|) $$

    $S$ is drawn by a hash of `seed`, the step (the state) and the two lengths, alike for policy and reference. There is
    no random generator: a batch, its halves and a resumed run draw the same. Two pairs with the same two lengths draw
    the same positions within a step. Grid and learning rates are those of the authors' script.
    """
    key = _scramble(state.step + (seed << 31))
    width = policy.chosen_tokens.shape[1], policy.rejected_tokens.shape[1]
    of_chosen = sample_positions(policy, policy.chosen_len, width[0], key)
    of_rejected = sample_positions(policy, policy.rejected_len, width[1], key)
    chosen = (policy.chosen_tokens - reference.chosen_tokens) * of_chosen
    rejected = (policy.rejected_tokens - reference.rejected_tokens) * of_rejected
    return -logsigmoid(beta * (chosen.sum(1) - rejected.sum(1))), Draws(state.step + 1)


TDPO = "needs the KL over the whole vocabulary at every position of both answers: slower than DPO"


@loss(
    paper="Zeng 2024 (TDPO), arXiv:2404.11999",
    equation="as in the authors' code",
    at_reference=ln2,
    group="token-level",
    grid={"beta": (0.1,)},
    traps=(TDPO, "the authors' code takes softmax and then log, which is NaN where a probability underflows"),
)
def tdpo1(policy: LogProbs, reference: LogProbs, kl: TokenKL, *, beta: Positive = 0.1) -> Tensor:
    r"""Token-level DPO: the margin is reduced by the difference of the answers' sequential KLs.

    $$ L = -\log\sigma\left(\beta\,(h - (D_l - D_w))\right), \quad D = \sum_t \mathrm{KL}(\pi_{0,t} \| \pi_t) $$

    $h = (c - r) - (c_0 - r_0)$. Both KLs carry gradient. Beta 0.1 is the paper's.
    """
    h = policy.margin - reference.margin
    return -logsigmoid(beta * (h - (kl.rejected - kl.chosen)))


@loss(
    paper="Zeng 2024 (TDPO), arXiv:2404.11999",
    equation="as in the authors' code",
    at_reference=ln2,
    group="token-level",
    grid={"alpha": (0.5,), "beta": (0.1,)},
    traps=(TDPO,),
)
def tdpo2(
    policy: LogProbs, reference: LogProbs, kl: TokenKL, *, beta: Positive = 0.1, alpha: NonNegative = 0.5
) -> Tensor:
    r"""`tdpo1` with the KL term weighted by $\alpha$ and without gradient through the chosen answer's KL.

    $$ L = -\log\sigma\left(\beta\,(h - \alpha(D_l - \mathrm{sg}[D_w]))\right),
       \quad D = \sum_t \mathrm{KL}(\pi_{0,t} \| \pi_t) $$

    $h = (c - r) - (c_0 - r_0)$, $\mathrm{sg}$ stops the gradient. Alpha 0.5 and beta 0.1 are the paper's.
    """
    h = policy.margin - reference.margin
    return -logsigmoid(beta * (h - alpha * (kl.rejected - kl.chosen.detach())))


@loss(
    paper="Zhou 2024 (WPO), arXiv:2406.11827",
    equation="Eq. 2, sampled alignment",
    group="token-level",
    grid={"beta": (0.01,)},
    learning_rate=(5e-7, 1e-6),
    traps=(
        "TRL since 0.29 does not clamp the weight at 1; here it is clamped, as in the authors' code",
        "open-instruct multiplies sums by a token mask: its weight is nearly zero",
    ),
)
def wpo(policy: VocabLogProbs, reference: LogProbs, *, beta: Positive = 0.01) -> Tensor:
    r"""DPO that weights each pair by how likely the policy would have written its answers.

    $$ L = -\min(1, w_w w_l)\,\log\sigma(\beta h), \quad
       w = \exp\left(\mathrm{mean}_t\left[\log\pi(y_t) - \log\textstyle\sum_v \pi(v)^2\right]\right) $$

    $h = (c - r) - (c_0 - r_0)$; the weight carries no gradient. Beta 0.01 is the paper's.
    TRL applies the weight to any pairwise loss; here it belongs to DPO.
    """
    aligned = (
        (policy.chosen_tokens - policy.chosen_log_sum_sq).sum(1) / policy.chosen_len.clamp(min=1)
        + (policy.rejected_tokens - policy.rejected_log_sum_sq).sum(1) / policy.rejected_len.clamp(min=1)
    ).detach()
    h = policy.margin - reference.margin
    return -torch.exp(aligned.clamp(max=0)) * logsigmoid(beta * h)


def dispersion(reference: VocabLogProbs, k: float, vocabulary: int) -> Tensor:
    """Compute Mallows' dispersion index, which is large for prompts on which the reference is certain.

    Args:
        reference: The reference's log-probs of B pairs, with entropies.
        k: Factor of the index.
        vocabulary: Size of the model's vocabulary.

    Returns:
        (B,) indices, without gradient.
    """
    chosen = reference.chosen_entropy.sum(1) / reference.chosen_len.clamp(min=1)
    rejected = reference.rejected_entropy.sum(1) / reference.rejected_len.clamp(min=1)
    entropy = ((chosen + rejected) / 2).clamp(min=LEAST_ENTROPY)
    return -k * torch.log(entropy / math.log(vocabulary)).clamp(max=0).detach()


MALLOWS = "`vocabulary` must be the model's vocabulary size: entropies are compared with its logarithm"


@loss(
    paper="Chen 2024 (MallowsPO), arXiv:2405.14953",
    equation="Eq. 12, in the numbering of a third party's code",
    at_reference=ln2,
    group="token-level",
    grid={"k": (0.29,)},
    traps=(MALLOWS,),
)
def mallows_dpo(
    policy: LogProbs,
    reference: VocabLogProbs,
    *,
    beta: Positive = 0.1,
    k: Positive = 0.29,
    vocabulary: Vocabulary = 49152,
) -> Tensor:
    r"""DPO with a weight in the margin that is large for prompts on which the reference is certain.

    $$ L = -\log\sigma(\beta \phi h), \quad \phi = -k \log\frac{\bar H}{\log V} $$

    $\bar H$ is the reference's entropy, the mean of both answers' token means; $V$ is `vocabulary` (49152 is
    SmolLM2's); $h = (c - r) - (c_0 - r_0)$. $\phi$ carries no gradient and is at least 0. `k` 0.29 is the authors'.
    """
    h = policy.margin - reference.margin
    return -logsigmoid(beta * dispersion(reference, k, vocabulary) * h)


@loss(
    paper="Chen 2024 (MallowsPO), arXiv:2405.14953",
    at_reference=lambda params: float((1 / (2 * params.tau)) ** 2),
    group="token-level",
    grid={"k": (0.29,)},
    traps=(MALLOWS,),
)
def mallows_ipo(
    policy: LogProbs,
    reference: VocabLogProbs,
    *,
    tau: Positive = 0.01,
    k: Positive = 0.29,
    vocabulary: Vocabulary = 49152,
) -> Tensor:
    r"""IPO with `mallows_dpo`'s weight in the margin.

    $$ L = \left(\phi h - \frac{1}{2\tau}\right)^2, \quad \phi = -k \log\frac{\bar H}{\log V} $$

    Symbols are those of `mallows_dpo`; tau is that of `ipo`, on sums over tokens.
    """
    h = policy.margin - reference.margin
    return (dispersion(reference, k, vocabulary) * h - 1 / (2 * tau)) ** 2


@loss(
    paper="Welleck 2019 (unlikelihood), arXiv:1908.04319",
    group="token-level",
    provisional="written from memory for preference pairs; the paper uses it on repeated tokens",
    traps=("pushes hardest on the correct tokens of the rejected answer: those that the policy is certain of",),
)
def unlikelihood(policy: TokenLogProbs, *, weight: NonNegative = 1.0) -> Tensor:
    r"""Negative log-likelihood of the chosen answer, plus $\lambda$ (`weight`) times that of avoiding rejected tokens.

    $$ L = -\frac{c}{|w|} - \lambda\,\frac{1}{|l|}\sum_t \log\left(1 - e^{r_t}\right) $$

    Provisional: the form for pairs is from memory. With weight 1 it is a plain sum.
    """
    inside = mask_first(policy.rejected_tokens, policy.rejected_len)
    against = torch.where(inside, log1mexp(torch.where(inside, policy.rejected_tokens, -1.0)), 0.0)
    return -policy.per_token().chosen - weight * against.sum(1) / policy.rejected_len.clamp(min=1)
