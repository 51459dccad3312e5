"""Losses whose rows depend on each other: by sorting, by a mean over the batch, or by a state from earlier steps.

The training loop gathers a whole step's rows over micro-batches and processes before it calls such a loss. A state is a
frozen dataclass of fp64 tensors that the loss takes and returns; it begins at `start()`, and the same inputs always
give the same outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from prefzoo.losses._bounds import FlipRate, NonNegative, PartShare, Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid, torch
from prefzoo.losses.dpo import ln2
from prefzoo.losses.pointwise import two_ln2
from prefzoo.types import LogProbs

LEAST_BETA = 1e-3
LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class RunningMean:
    """Mean and number of all values so far."""

    mean: Tensor
    count: Tensor

    @classmethod
    def start(cls) -> RunningMean:
        """Return the state before the first step: no values."""
        return cls(torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))

    def updated(self, values: Tensor) -> RunningMean:
        """Return the state after adding values, without gradient."""
        count = self.count + len(values)
        return RunningMean(self.mean + (values.detach() - self.mean).sum() / count, count)


@dataclass(frozen=True)
class MovingMoments:
    """Moving mean and standard deviation with decay 0.9."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def start(cls) -> MovingMoments:
        """Return the state before the first step: mean 0 and standard deviation 1."""
        return cls(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))

    def updated(self, values: Tensor) -> MovingMoments:
        """Return the state after adding values, without gradient."""
        values = values.detach()
        spread = values.std(unbiased=False)
        return MovingMoments(0.9 * self.mean + 0.1 * values.mean(), 0.9 * self.spread + 0.1 * spread)


@loss(
    paper="Jung 2024 (BCO), arXiv:2404.04656",
    equation="Section 4, on pairs",
    at_reference=two_ln2,
    grid={"beta": (0.01,)},
    learning_rate=(5e-7,),
    couples="all pairs of a step share the shift, the running mean of the rewards up to and including this step",
    traps=(
        "TRL dropped the shift in 0.29: its bco_pair is the bco_pair here; LLaMA-Factory and ms-swift still have it",
        "implementations disagree on whether the shift is a mean over all steps or a moving mean",
    ),
)
def bco_pair_shift(
    policy: LogProbs, reference: LogProbs, state: RunningMean, *, beta: Positive = 0.01
) -> tuple[Tensor, RunningMean]:
    r"""Binary classifier of chosen and rejected answers by their rewards, with their running mean as the threshold.

    $$ L = -\log\sigma(\beta p_w - \delta) - \log\sigma(-(\beta p_l - \delta)) $$

    $p_w = c - c_0$, $p_l = r - r_0$; $\delta$ is the mean of $\beta p$ over all answers so far, without gradient.
    Beta 0.01 is that of `bco_pair`.
    """
    chosen, rejected = beta * (policy.chosen - reference.chosen), beta * (policy.rejected - reference.rejected)
    state = state.updated(torch.cat((chosen, rejected)))
    return -logsigmoid(chosen - state.mean) - logsigmoid(state.mean - rejected), state


@loss(
    paper="Melnyk 2024 (AOT), arXiv:2406.05882",
    equation="Section 3, paired",
    at_reference=ln2,
    group="distributional",
    grid={"beta": (0.01,)},
    couples="margins are compared by rank within the batch; with one pair it is DPO",
    mean_only="value i belongs to rank i, not to pair i",
    traps=("depends on the batch size, and on gradient accumulation unless micro-batches are gathered",),
)
def aot(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.01, flip_rate: FlipRate = 0.0) -> Tensor:
    r"""Compare the distribution of the policy's margins with that of the reference's, rank by rank.

    $$ L_i = -(1-\epsilon)\log\sigma(\beta d_i) - \epsilon\log\sigma(-\beta d_i),
       \quad d_i = \mathrm{sort}(c - r)_i - \mathrm{sort}(c_0 - r_0)_i $$

    $\epsilon$ is `flip_rate`. Beta 0.01 is the paper's. TRL sorts only within a process's micro-batch.
    """
    d = policy.margin.sort().values - reference.margin.sort().values
    return -(1 - flip_rate) * logsigmoid(beta * d) - flip_rate * logsigmoid(-beta * d)


@loss(
    paper="Melnyk 2024 (AOT), arXiv:2406.05882",
    equation="Section 3, unpaired",
    at_reference=ln2,
    group="distributional",
    grid={"beta": (0.01,)},
    couples="log-ratios of chosen and rejected answers are compared by rank within the batch; with one pair it is DPO",
    mean_only="value i belongs to rank i, not to pair i",
    traps=(
        "TRL called this `aot_pair` until 0.27",
        "it needs equal numbers of chosen and rejected answers, so it takes pairs, but ignores which belong together",
    ),
)
def aot_unpaired(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.01, flip_rate: FlipRate = 0.0) -> Tensor:
    r"""Compare the distribution of chosen log-ratios with that of rejected ones, rank by rank, ignoring the pairs.

    $$ L_i = -(1-\epsilon)\log\sigma(\beta d_i) - \epsilon\log\sigma(-\beta d_i),
       \quad d_i = \mathrm{sort}(c - c_0)_i - \mathrm{sort}(r - r_0)_i $$

    $\epsilon$ is `flip_rate`. Beta 0.01 is the paper's.
    """
    d = (policy.chosen - reference.chosen).sort().values - (policy.rejected - reference.rejected).sort().values
    return -(1 - flip_rate) * logsigmoid(beta * d) - flip_rate * logsigmoid(-beta * d)


@loss(
    paper="Wu 2024 (beta-DPO), arXiv:2407.08639",
    equation="as in the authors' code, but for the choice of pairs",
    at_reference=ln2,
    group="distributional",
    grid={"alpha": (0.01, 0.6), "beta": (0.1,), "drop": (0.2,)},
    learning_rate=(5e-7,),
    couples="the batch's mean margin sets beta, and the pairs farthest from the moving mean are dropped",
    mean_only="the values of dropped pairs are zero, and the others are scaled up",
    traps=(
        "the authors draw the pairs they use at random with Gaussian weights; here the nearest are used",
        "the authors' README uses alpha 0.6, their config file 0.01",
    ),
)
def beta_dpo(
    policy: LogProbs,
    reference: LogProbs,
    state: MovingMoments,
    *,
    beta: Positive = 0.1,
    alpha: NonNegative = 0.6,
    drop: PartShare = 0.2,
) -> tuple[Tensor, MovingMoments]:
    r"""DPO whose beta follows the batch's mean margin, without the pairs whose margins are unusual.

    $$ L = -\log\sigma(\beta_B h),
       \quad \beta_B = \max\left(10^{-3}, \beta\,(1 + \alpha(\mathrm{mean}_{\mathrm{used}}\,h - M))\right) $$

    $h = (c - r) - (c_0 - r_0)$; $M$ is the moving mean of $h$, this batch included. The share $1 - \rho$ (`drop` is
    $\rho$) of pairs with the smallest $|h - M|$ is used, so no random numbers are needed. Its values are scaled by
    $B/\mathrm{used}$ and the others are zero, so that the mean over all rows is the mean over those used.
    $\beta_B$ and $M$ carry no gradient.
    """
    h = policy.margin - reference.margin
    state = state.updated(h)
    kept = max(1, round((1 - drop) * len(h)))
    nearest = (h.detach() - state.mean).abs().argsort(stable=True)[:kept]
    weight = torch.zeros_like(h).index_fill(0, nearest, len(h) / kept).detach()
    scale = (beta * (1 + alpha * (h.detach()[nearest].mean() - state.mean))).clamp(min=LEAST_BETA)
    return -weight * logsigmoid(scale * h), state


@loss(
    paper="Wu 2024 (alpha-DPO), arXiv:2410.10148",
    equation="as in the authors' code",
    group="distributional",
    grid={"beta": (2.5, 10.0), "alpha": (0.05, 0.2), "target": (0.15, 0.4, 0.6)},
    learning_rate=(6e-7, 8e-7, 1e-6),
    couples="log-ratio margins are standardised by their moving mean and deviation, this batch included",
    traps=("not alphapo, and not fdpo_alpha", "the reference only decides the target margin, without gradient"),
)
def alpha_dpo(
    policy: LogProbs,
    reference: LogProbs,
    state: MovingMoments,
    *,
    beta: Positive = 2.5,
    alpha: NonNegative = 0.1,
    target: NonNegative = 0.3,
) -> tuple[Tensor, MovingMoments]:
    r"""SimPO with a larger target margin for pairs that the policy has already moved further than others.

    $$ L = -\log\sigma\left(\beta\,(\bar c - \bar r - g - \alpha z)\right), \quad z = \frac{h - M}{S} $$

    $\bar c, \bar r$ are mean token log-probs, $g$ (`target`) is in nats per token: SimPO's gamma over beta. $h$ is
    the log-ratio margin of the sums, $M$ and $S$ its moving mean and deviation; $z$ carries no gradient. The
    defaults lie in the middle of the authors' four settings, which are the grid.
    """
    h = (policy.margin - reference.margin).detach()
    state = state.updated(h)
    z = (h - state.mean) / state.spread.clamp(min=LEAST_SPREAD)
    return -logsigmoid(beta * (policy.per_token().margin - target - alpha * z)), state
