"""Losses that use how much better the chosen answer is: the data must have scores of both answers."""

from __future__ import annotations

import math

from prefzoo.losses._bounds import Finite, NonNegative, Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid, torch
from prefzoo.losses.dpo import ln2
from prefzoo.types import LogProbs, RankedScores, Scores

LEAST_GAP = 1e-6
UNIT = "scores are in the data's own unit: a scale does not carry over to another data set"
NAME = "three losses are called RPO: for DPO plus likelihood see rpo"


@loss(
    paper="Amini 2024 (ODPO), arXiv:2402.10571",
    equation="as in the authors' code",
    grid={"alpha": (0.5, 1.0), "beta": (0.05, 0.5, 0.7)},
    traps=(UNIT, "a tie has no logarithm: gaps below 1e-6 count as 1e-6, which requires almost no margin"),
)
def odpo(
    policy: LogProbs, reference: LogProbs, scores: Scores, *, beta: Positive = 0.1, alpha: NonNegative = 1.0
) -> Tensor:
    r"""DPO with an offset: the better the chosen answer, the larger the required margin.

    $$ L = -\log\sigma\left(\beta h - \alpha \log(s_w - s_l)\right), \quad h = (c - r) - (c_0 - r_0) $$

    $s_w, s_l$ are the scores in the data. Alpha 1 is that of the authors' code, whose README gives the grid, with one
    beta per task. `margin_dpo` takes the plain gap as the offset.
    """
    h = policy.margin - reference.margin
    return -logsigmoid(beta * h - alpha * torch.log(scores.gap.clamp(min=LEAST_GAP)))


@loss(
    paper="Touvron 2023 (Llama 2: the margin), arXiv:2307.09288; in DPO's form Amini 2024, 2402.10571",
    equation="Eq. 2 of the first, with DPO's rewards",
    traps=(UNIT,),
)
def margin_dpo(
    policy: LogProbs, reference: LogProbs, scores: Scores, *, beta: Positive = 0.1, scale: Positive = 1.0
) -> Tensor:
    r"""DPO that requires a margin in proportion to the gap of the scores.

    $$ L = -\log\sigma(\beta h - m), \quad m = s\,(s_w - s_l), \quad h = (c - r) - (c_0 - r_0) $$

    $s_w, s_l$ are the scores in the data, $s$ is `scale`. Beta is DPO's.
    """
    h = policy.margin - reference.margin
    return -logsigmoid(beta * h - scale * scores.gap)


@loss(
    paper="Nvidia 2024 (reward-aware preference optimisation), arXiv:2406.11704; Sun 2025, arXiv:2502.00203",
    grid={"beta": (0.2,)},
    traps=(UNIT, NAME),
)
def rpo_bwd_kl(
    policy: LogProbs, reference: LogProbs, scores: Scores, *, beta: Positive = 0.2, scale: Positive = 1.0
) -> Tensor:
    r"""KL from the preference that the scores imply to the policy's: soft labels instead of hard ones.

    $$ L = \mathrm{KL}\left(\sigma(D) \,\|\, \sigma(\beta h)\right)
         = \sigma(D)\log\frac{\sigma(D)}{\sigma(\beta h)} + \sigma(-D)\log\frac{\sigma(-D)}{\sigma(-\beta h)} $$

    $D = s\,(s_w - s_l)$ with `scale` $s$, $h = (c - r) - (c_0 - r_0)$. NeMo calls this direction backward. Beta 0.2 is
    NeMo-Aligner's.
    """
    return _kl(scale * scores.gap, beta * (policy.margin - reference.margin))


@loss(
    paper="Nvidia 2024 (reward-aware preference optimisation), arXiv:2406.11704; Sun 2025, arXiv:2502.00203",
    grid={"beta": (0.2,)},
    traps=(UNIT, NAME, "saturates: a pair far on the wrong side has almost no gradient"),
)
def rpo_fwd_kl(
    policy: LogProbs, reference: LogProbs, scores: Scores, *, beta: Positive = 0.2, scale: Positive = 1.0
) -> Tensor:
    r"""KL from the policy's preference to the one that the scores imply.

    $$ L = \mathrm{KL}\left(\sigma(\beta h) \,\|\, \sigma(D)\right) $$

    $D = s\,(s_w - s_l)$ with `scale` $s$, $h = (c - r) - (c_0 - r_0)$. NeMo calls this direction forward. Beta 0.2 is
    NeMo-Aligner's.
    """
    return _kl(beta * (policy.margin - reference.margin), scale * scores.gap)


@loss(
    paper="Nvidia 2024 (reward-aware preference optimisation), arXiv:2406.11704; Sun 2025, arXiv:2502.00203",
    grid={"beta": (0.2,)},
    traps=(UNIT, NAME),
)
def rpo_sq(
    policy: LogProbs, reference: LogProbs, scores: Scores, *, beta: Positive = 0.2, scale: Positive = 1.0
) -> Tensor:
    r"""Squared difference between the implicit reward's margin and the gap of the scores, as in REBEL.

    $$ L = (\beta h - D)^2 $$

    $D = s\,(s_w - s_l)$ with `scale` $s$, $h = (c - r) - (c_0 - r_0)$. Beta 0.2 is NeMo-Aligner's.
    """
    return (beta * (policy.margin - reference.margin) - scale * scores.gap) ** 2


def _kl(of: Tensor, to: Tensor) -> Tensor:
    """Return the KL between the Bernoulli distributions with two logits, from the first to the second."""
    yes = torch.sigmoid(of) * (logsigmoid(of) - logsigmoid(to))
    return yes + torch.sigmoid(-of) * (logsigmoid(-of) - logsigmoid(-to))


@loss(
    paper="Matrenok 2025 (QRPO), arXiv:2507.08068",
    equation="Eq. 11, and the authors' code",
    grid={"beta": (3e-4, 1e-3, 3e-3)},
    learning_rate=(1e-7, 3e-7, 1e-6),
    traps=(
        "the column ref_rewards lists rewards of the reference's own answers to the prompt, by the same reward model "
        "as the scores; the authors use 1 to 50 per prompt",
        "at these betas a step moves by the target, not by the margin: rewards/accuracies says little about it",
        "a chosen answer that is worse than most of the reference's is pushed down, too",
    ),
)
def qrpo(policy: LogProbs, reference: LogProbs, scores: RankedScores, *, beta: Positive = 1e-3) -> Tensor:
    r"""Regress each answer's log-ratio on its rank among the reference's own answers, whose partition sum is known.

    $$ L = \frac12 \sum_{(p, q)} \left(q - \beta\log Z - \beta p\right)^2,
       \quad \beta\log Z = \beta\left(\log\beta + \frac1\beta\right) $$

    The sum is over the chosen answer, $p_w = c - c_0$, $q_w$, and the rejected one, $p_l = r - r_0$, $q_l$; $q$ is the
    share of `ref_rewards` that is at most the answer's score. The grid is that of the authors' scripts.
    """
    level = beta * (math.log(beta) + 1 / beta)
    chosen = scores.chosen_quantile - level - beta * (policy.chosen - reference.chosen)
    rejected = scores.rejected_quantile - level - beta * (policy.rejected - reference.rejected)
    return (chosen.square() + rejected.square()) / 2


@loss(
    paper="Lan 2025 (MaPPO), arXiv:2507.21183",
    equation="Eq. 8",
    at_reference=ln2,
    score_range=(0.0, 1.0),
    traps=(
        "scores must lie between 0 and 1: the authors apply a logistic function to a reward model's scores first",
        "pairs with nearly equal scores hardly push the rejected answer down, so they are almost a likelihood term; "
        "with a gap of 1 it is dpo",
        "above a gap of 1 it pushes the rejected answer down harder than dpo",
    ),
)
def mappo(policy: LogProbs, reference: LogProbs, scores: Scores, *, beta: Positive = 0.1) -> Tensor:
    r"""DPO that weighs the rejected answer by the gap of the scores, a prior on the implicit rewards.

    $$ L = -\log\sigma\left(\beta\,(p_w - (s_w - s_l)\, p_l)\right) $$

    $p_w = c - c_0$, $p_l = r - r_0$; $s_w$ and $s_l$ are the scores. Beta is DPO's.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    return -logsigmoid(beta * (chosen - scores.gap * rejected))


@loss(
    paper="Peng 2025 (Uni-DPO, first Omni-DPO), arXiv:2506.10054",
    equation="as in the authors' code",
    grid={"beta": (2.0, 3.5, 10.0), "tau_ref": (0.8, 1.0, 2.0)},
    learning_rate=(8e-7, 1e-6, 2e-6),
    traps=(
        "log-probs are means over tokens, so beta is 2 or more, not DPO's 0.1",
        "eta and tau_good are in the unit of the scores: tau_good 3.2 is for the authors' scores, 8 for those of 0 to "
        "10",
        "the second weight reads the policy's own margin, not the log-ratio, and carries gradient",
    ),
)
def uni_dpo(
    policy: LogProbs,
    reference: LogProbs,
    scores: Scores,
    *,
    beta: Positive = 2.0,
    eta: NonNegative = 0.7,
    tau_ref: Finite = 1.0,
    gamma: NonNegative = 3.0,
    weight: NonNegative = 0.001,
    tau_good: Finite = 3.2,
) -> Tensor:
    r"""DPO on means over tokens with weights: by the gap of scores, and by how badly the policy fits the pair.

    $$ L = -\sigma(\eta D)\, \sigma(\tau - \beta(\bar c - \bar r))^{\gamma} \log\sigma(\beta h)
           - \lambda\, [\bar c < \bar c_0,\ s_w \ge \tau_{good}]\, \bar c $$

    $\bar c = c/|w|$ and so on are means over tokens, $h = (\bar c - \bar r) - (\bar c_0 - \bar r_0)$,
    $D = s_w - s_l$, $\tau$ is `tau_ref`, $\lambda$ is `weight`. The bracket is 1 where both hold: a good chosen answer
    that became less likely is raised. Defaults are the authors' for Llama 3 8B Instruct.
    """
    own, base = policy.per_token(), reference.per_token()
    fitted = torch.exp(gamma * logsigmoid(tau_ref - beta * own.margin))
    fallen = (own.chosen < base.chosen) & (scores.chosen >= tau_good)
    pairs = -torch.sigmoid(eta * scores.gap) * fitted * logsigmoid(beta * (own.margin - base.margin))
    return pairs - weight * torch.where(fallen, own.chosen, 0.0)
