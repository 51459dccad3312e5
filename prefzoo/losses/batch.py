"""Losses whose rows see each other: through sorting, through a mean, or through what earlier steps left.

The batch is what the function is given: the loop gathers it over the processes. A state is a frozen value that goes
in and comes out; it starts at `start()`, in fp64, and the same inputs always give the same outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefzoo.losses._bounds import FlipRate, NonNegative, PartShare, Positive
from prefzoo.losses._registry import loss
from prefzoo.losses.dpo import ln2
from prefzoo.losses.pointwise import two_ln2
from prefzoo.types import LogProbs

LEAST_BETA = 1e-3
LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class RunningMean:
    """The mean of all values so far, and their number."""

    mean: Tensor
    count: Tensor

    @classmethod
    def start(cls) -> RunningMean:
        return cls(torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))

    def with_more(self, values: Tensor) -> RunningMean:
        """The state after these values, which get no gradient."""
        count = self.count + len(values)
        return RunningMean(self.mean + (values.detach() - self.mean).sum() / count, count)


@dataclass(frozen=True)
class MovingMoments:
    """Moving mean and standard deviation, of decay 0.9; before the first step 0 and 1."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def start(cls) -> MovingMoments:
        return cls(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))

    def with_more(self, values: Tensor) -> MovingMoments:
        """The state after these values, which get no gradient."""
        values = values.detach()
        spread = values.std(unbiased=False)
        return MovingMoments(0.9 * self.mean + 0.1 * values.mean(), 0.9 * self.spread + 0.1 * spread)


@loss(
    paper="Jung 2024 (BCO), arXiv:2404.04656",
    equation="Section 4, on pairs",
    at_reference=two_ln2,
    grid={"beta": (0.01,)},
    learning_rate=(5e-7,),
    couples="all pairs of a step share the shift, the running mean of the rewards up to and with this step's",
    traps=(
        "TRL lost the shift in 0.29: its bco_pair is ours; LLaMA-Factory and ms-swift keep it",
        "whether the shift is a mean over all steps or a moving one is not settled between implementations",
    ),
)
def bco_pair_shift(
    policy: LogProbs, reference: LogProbs, state: RunningMean, *, beta: Positive = 0.01
) -> tuple[Tensor, RunningMean]:
    r"""A binary classifier on rewards around their running mean, on pairs.

    $$ L = -\log\sigma(\beta p_w - \delta) - \log\sigma(-(\beta p_l - \delta)) $$

    $p_w = c - c_0$, $p_l = r - r_0$; $\delta$ is the mean of $\beta p$ over all answers so far, without gradient.
    Beta 0.01 as `bco_pair`.
    """
    chosen, rejected = beta * (policy.chosen - reference.chosen), beta * (policy.rejected - reference.rejected)
    state = state.with_more(torch.cat((chosen, rejected)))
    return -logsigmoid(chosen - state.mean) - logsigmoid(state.mean - rejected), state


@loss(
    paper="Melnyk 2024 (AOT), arXiv:2406.05882",
    equation="Section 3, paired",
    at_reference=ln2,
    group="distributional",
    grid={"beta": (0.01,)},
    couples="margins are compared by rank within the batch; with one pair it is DPO",
    traps=(
        "depends on the batch size, and on accumulation unless micro-batches are gathered",
        "value i belongs to rank i, not to pair i: only the mean has a meaning",
    ),
)
def aot(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.01, flip_rate: FlipRate = 0.0) -> Tensor:
    r"""The policy's margins must exceed the reference's as a distribution: rank against rank.

    $$ L_i = -(1-\epsilon)\log\sigma(\beta d_i) - \epsilon\log\sigma(-\beta d_i),
       \quad d_i = \mathrm{sort}(c - r)_i - \mathrm{sort}(c_0 - r_0)_i $$

    $\epsilon$ is `flip_rate`. Beta 0.01 as in the paper. TRL sorts within the process's micro-batch alone.
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
    traps=(
        "TRL called this `aot_pair` until 0.27",
        "it takes as many chosen as rejected answers, so it is fed pairs, whose ties it then ignores",
    ),
)
def aot_unpaired(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.01, flip_rate: FlipRate = 0.0) -> Tensor:
    r"""Chosen log-ratios must exceed rejected ones as a distribution; who was whose partner does not matter.

    $$ L_i = -(1-\epsilon)\log\sigma(\beta d_i) - \epsilon\log\sigma(-\beta d_i),
       \quad d_i = \mathrm{sort}(c - c_0)_i - \mathrm{sort}(r - r_0)_i $$

    $\epsilon$ is `flip_rate`. Beta 0.01 as in the paper.
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
    traps=(
        "the authors draw the kept pairs at random by a Gaussian weight; here the nearest are kept",
        "the authors' README runs alpha 0.6, their config file says 0.01",
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
    r"""DPO whose beta follows the batch's margins, and which leaves out the pairs of unusual margin.

    $$ L = -\log\sigma(\beta_B h),
       \quad \beta_B = \max\left(10^{-3}, \beta\,(1 + \alpha(\mathrm{mean}_{kept}\,h - M))\right) $$

    $h = (c - r) - (c_0 - r_0)$; $M$ is the moving mean of $h$ with this batch in it. The share $1 - \rho$ (`drop` is
    $\rho$) with the smallest $|h - M|$ is kept, so no random numbers are needed; kept values are scaled by $B/kept$,
    the others are zero, and the mean over all rows is the mean over the kept. $\beta_B$ and $M$ carry no gradient.
    """
    h = policy.margin - reference.margin
    state = state.with_more(h)
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
    couples="log-ratio margins are standardised by their moving mean and spread, with this batch in them",
    traps=("not alphapo, and not fdpo_alpha", "its reference decides only the target margin, without gradient"),
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
    r"""SimPO whose target margin grows for pairs that the policy has already moved further than others.

    $$ L = -\log\sigma\left(\beta\,(\bar c - \bar r - g - \alpha z)\right), \quad z = \frac{h - M}{S} $$

    $\bar c, \bar r$ are mean token log-probs, $g$ (`target`) is in nats per token: SimPO's gamma over beta. $h$ is
    the log-ratio margin of the sums, $M$ and $S$ its moving mean and deviation; $z$ carries no gradient. Defaults lie
    in the middle of the authors' four settings, which are the grid.
    """
    h = (policy.margin - reference.margin).detach()
    state = state.with_more(h)
    z = (h - state.mean) / state.spread.clamp(min=LEAST_SPREAD)
    return -logsigmoid(beta * (policy.per_token().margin - target - alpha * z)), state
