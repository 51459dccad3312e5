"""Losses with a target margin for each pair, computed from recent margins: clearly ranked pairs get larger ones."""

from __future__ import annotations

from dataclasses import dataclass

from prefzoo.losses._bounds import NonNegative, Positive
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid, torch
from prefzoo.losses.dpo import ln2
from prefzoo.types import LogProbs

RECENT = 256  # margins that share the targets, this step's included
STEPS = 20
LEAST = 1e-10
COUPLES = "the targets of a step's pairs depend on each other and on the margins of earlier steps"
TRAPS = (
    "the authors draw earlier margins at random from the last 2048 and begin with eight random numbers; here the last "
    "256 are used, and the first step has only its own",
    "a wrong label that the model contradicts gets a small target, but a wrong one that it believes a large one",
)


@dataclass(frozen=True, eq=False)
class RecentMargins:
    """The reward margins of the last pairs, oldest first."""

    margins: Tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RecentMargins) and torch.equal(self.margins, other.margins)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def start(cls) -> RecentMargins:
        """Return the state before the first step: no margins."""
        return cls(torch.zeros(0, dtype=torch.float64))

    def with_targets(self, margins: Tensor, gamma: float, tau: float) -> tuple[Tensor, RecentMargins]:
        """Return the targets of a step's pairs, and the state after the step.

        The targets are gamma times the weights of a distribution over the recent pairs, found by mirror descent:
            weights far from uniform are penalised (tau), and large targets for small margins.

        Args:
            margins: (B,) reward margins of the step's pairs.
            gamma: The mean of all targets.
            tau: Weight of the KL from the uniform distribution.

        Returns:
            (B,) targets without gradient, and the next state.
        """
        both = torch.cat((self.margins, margins.detach().to(self.margins)))
        recent = both[-max(RECENT, len(margins)) :]
        rate, count = min(0.5 / tau, 1.0), len(recent)
        weight = torch.ones_like(recent)  # times the number of pairs: 1 is uniform
        for _ in range(STEPS):
            slope = tau * (1 + torch.log(weight + count * LEAST)) + gamma * torch.sigmoid(gamma * weight - recent)
            weight = weight * torch.exp(-rate * slope)
            weight = weight / weight.mean()
        return (gamma * weight[-len(margins) :]).to(margins.dtype), RecentMargins(both[-RECENT:])


@loss(
    paper="Sun 2025 (gamma-PO), arXiv:2506.03690",
    equation="as in the authors' code, but for the choice of earlier margins",
    at_reference=ln2,
    group="noise-robust",
    grid={"tau": (3.0, 10.0, 20.0)},
    couples=COUPLES,
    traps=TRAPS,
)
def gamma_dpo(
    policy: LogProbs,
    reference: LogProbs,
    state: RecentMargins,
    *,
    beta: Positive = 0.1,
    gamma: NonNegative = 0.5,
    tau: Positive = 10.0,
) -> tuple[Tensor, RecentMargins]:
    r"""DPO with an offset for each pair: above zero for pairs of a large margin, below it for unclear ones.

    $$ L = -\log\sigma\left(\beta h - (\gamma_i - \gamma)\right), \quad
       \gamma_i = \gamma N q_i,
       \quad q = \arg\min_q\ \tau\,\mathrm{KL}(q \| u) - \frac1N \sum_i \log\sigma(\beta h_i - \gamma_i) $$

    $h = (c - r) - (c_0 - r_0)$, $u$ is uniform over the $N$ most recent pairs; $q$ is found by 20 steps of mirror
    descent and carries no gradient. No published setting of this form was read: beta is DPO's, gamma a placeholder,
    and tau that of `gamma_simpo`.
    """
    margins = beta * (policy.margin - reference.margin)
    targets, state = state.with_targets(margins, gamma, tau)
    return -logsigmoid(margins - (targets - gamma)), state


@loss(
    paper="Sun 2025 (gamma-PO), arXiv:2506.03690",
    equation="as in the authors' code, but for the choice of earlier margins",
    group="noise-robust",
    grid={"beta": (2.5, 10.0), "gamma": (0.375, 3.0, 4.0, 5.0), "tau": (3.0, 10.0, 20.0)},
    learning_rate=(6e-7, 8e-7, 1e-6),
    couples=COUPLES,
    traps=(*TRAPS, "gamma is SimPO's, not divided by beta; the authors' `gamma_beta_ratio` is gamma over beta"),
)
def gamma_simpo(
    policy: LogProbs,
    state: RecentMargins,
    *,
    beta: Positive = 10.0,
    gamma: NonNegative = 4.0,
    tau: Positive = 10.0,
) -> tuple[Tensor, RecentMargins]:
    r"""SimPO whose target margin is larger for pairs of a large margin and smaller for unclear ones, on average gamma.

    $$ L = -\log\sigma\left(\beta(\bar c - \bar r) - \gamma_i\right), \quad \gamma_i = \gamma N q_i $$

    $\bar c, \bar r$ are mean token log-probs, $q$ is a distribution over recent pairs as in `gamma_dpo`, and carries no
    gradient. The defaults are the authors' for Llama 3; the grid has their four settings.
    """
    margins = beta * policy.per_token().margin
    targets, state = state.with_targets(margins, gamma, tau)
    return -logsigmoid(margins - targets), state
