r"""DPO under other f-divergences: $f'(\pi/\pi_0)$ replaces the log-ratio. With the reverse KL it is `dpo`.

The replacement is valid only in losses of a difference: in a pointwise loss the normaliser does not cancel. TRL offers
it for other paired losses as well; the paper derives it for DPO alone.
"""

from __future__ import annotations

import math

from prefzoo.losses._bounds import Positive, PositiveShare
from prefzoo.losses._registry import loss
from prefzoo.losses._stable import bounded_exp, bounded_expm1
from prefzoo.losses._torch import Tensor, logsigmoid
from prefzoo.losses.dpo import ln2
from prefzoo.types import LogProbs

OVERFLOW = "exponentials of log-ratios of whole sequences: pairs far below the reference dominate the batch"


@loss(
    paper="Wang 2023 (f-DPO), arXiv:2309.16240",
    equation="as in the authors' code",
    at_reference=ln2,
    group="f-divergence",
    grid={"beta": (0.03, 0.1)},
    traps=(OVERFLOW, "TRL gives NaN when both answers lie 95 nats below the reference"),
)
def fdpo_forward_kl(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""DPO under the forward KL, which covers all modes of the reference.

    $$ L = -\log\sigma\left(\beta\,(f(p_w) - f(p_l))\right), \quad f(u) = 1 - e^{-u} $$

    $p_w = c - c_0$, $p_l = r - r_0$. Beyond $-u = 30$ the exponential is replaced by its tangent. The grid is
    that of the authors' scripts.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    return -logsigmoid(beta * (bounded_exp(-rejected) - bounded_exp(-chosen)))


@loss(
    paper="Wang 2023 (f-DPO), arXiv:2309.16240",
    equation="as in the authors' code",
    at_reference=ln2,
    group="f-divergence",
    grid={"beta": (0.1, 0.3)},
    traps=("log-ratios above zero saturate: a chosen answer already likelier than under the reference hardly moves",),
)
def fdpo_js(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""DPO under the Jensen-Shannon divergence.

    $$ L = -\log\sigma\left(\beta\,(f(p_w) - f(p_l))\right), \quad f(u) = \log 2 + \log\sigma(u) $$

    $p_w = c - c_0$, $p_l = r - r_0$. The constant cancels. The grid is that of the authors' scripts.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    return -logsigmoid(beta * ((math.log(2) + logsigmoid(chosen)) - (math.log(2) + logsigmoid(rejected))))


@loss(
    paper="Wang 2023 (f-DPO), arXiv:2309.16240",
    equation="as in the authors' code",
    at_reference=ln2,
    group="f-divergence",
    grid={"alpha": (0.1, 0.3, 0.5, 0.7, 0.9), "beta": (0.01, 0.1, 0.9)},
    learning_rate=(1.5e-6,),
    traps=(OVERFLOW, "TRL's coefficient since 0.29 is 1 - alpha of the paper (and of this); before it was alpha"),
)
def fdpo_alpha(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, alpha: PositiveShare = 0.5) -> Tensor:
    r"""DPO under an alpha-divergence, between the reverse KL (alpha near 0) and the forward KL (alpha 1).

    $$ L = -\log\sigma\left(\beta\,(f(p_w) - f(p_l))\right), \quad f(u) = \frac{1 - e^{-\alpha u}}{\alpha} $$

    $p_w = c - c_0$, $p_l = r - r_0$. Beyond $-\alpha u = 30$ the exponential is replaced by its tangent. The authors
    use alpha between 0 and 1, and their scripts run the grid; at 0.5 both conventions for alpha agree.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    return -logsigmoid(beta * (bounded_expm1(-alpha * rejected) - bounded_expm1(-alpha * chosen)) / alpha)


@loss(
    paper="Huang 2024 (chi-PO), arXiv:2407.13399",
    at_reference=ln2,
    group="f-divergence",
    provisional="formula from a secondary copy of the paper; whether the clip comes before or after beta is uncertain",
    traps=(OVERFLOW, "no gradient where the margin is clipped, even for a pair on the wrong side"),
)
def chi_po(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1, reward_range: Positive = 10.0) -> Tensor:
    r"""DPO under a chi-squared divergence mixed with the KL, with a clipped reward margin, against overfitting.

    $$ L = -\log\sigma\left(\mathrm{clip}_{2R}\left[\beta\,(f(p_w) - f(p_l))\right]\right), \quad f(u) = e^u + u $$

    $p_w = c - c_0$, $p_l = r - r_0$; $R$ (`reward_range`) bounds one reward. Beyond $u = 30$ the exponential is
    replaced by its tangent. Provisional: from a secondary copy; beta and R are placeholders, not the paper's.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    margin = beta * ((bounded_exp(chosen) + chosen) - (bounded_exp(rejected) + rejected))
    return -logsigmoid(margin.clamp(-2 * reward_range, 2 * reward_range))


@loss(
    paper="SquaredPO 2026, arXiv:2602.06788",
    at_reference=ln2,
    group="f-divergence",
    provisional="formula from a summary; there is no code, and the paper's exact loss is uncertain",
    traps=(
        OVERFLOW,
        "not monotone: above a log-ratio of 1 the reward falls again, by design, to limit displacement",
    ),
)
def squared_po(policy: LogProbs, reference: LogProbs, *, beta: Positive = 0.1) -> Tensor:
    r"""DPO under the divergence of $f(t) = \frac12 \log^2 t$, which keeps the chosen answer near the reference.

    $$ L = -\log\sigma\left(\beta\,(f'(p_w) - f'(p_l))\right), \quad f'(u) = u\,e^{-u} $$

    $p_w = c - c_0$, $p_l = r - r_0$. Beyond $-u = 30$ the exponential is replaced by its tangent. Provisional: from a
    summary; beta is DPO's.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    return -logsigmoid(beta * (chosen * bounded_exp(-chosen) - rejected * bounded_exp(-rejected)))
