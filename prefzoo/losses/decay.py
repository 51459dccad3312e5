"""Losses that weigh an answer's first tokens most: the weight decays with each token."""

from __future__ import annotations

from prefzoo.losses._bounds import NonNegative, Positive, PositiveShare
from prefzoo.losses._registry import loss
from prefzoo.losses._torch import Tensor, logsigmoid, torch
from prefzoo.losses.dpo import ln2
from prefzoo.types import TokenLogProbs

FIRST_TOKENS = "at a decay of 0.98 the hundredth token counts 13%, and all tokens together count less than 49 full ones"


def decayed(tokens: Tensor, decay: float) -> Tensor:
    """Return the (B,) sums of (B, T) log-probs, weighted by `decay` to the power of the token's position, from 1."""
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device, dtype=tokens.dtype)
    return (tokens * decay**places).sum(1)


@loss(
    paper="Shao 2025 (D2PO), arXiv:2502.14340",
    equation="as in the authors' code",
    at_reference=ln2,
    group="token-level",
    grid={"decay": (0.98,), "beta": (0.1,)},
    learning_rate=(5e-6,),
    traps=(FIRST_TOKENS, "other methods are called D2PO too, among them one that needs discriminators"),
)
def d2po(
    policy: TokenLogProbs, reference: TokenLogProbs, *, beta: Positive = 0.1, decay: PositiveShare = 0.98
) -> Tensor:
    r"""DPO in which a token's weight decays with its position: the beginning of an answer counts most.

    $$ L = -\log\sigma(\beta h), \quad h = (\tilde c - \tilde r) - (\tilde c_0 - \tilde r_0),
       \quad \tilde c = \sum_t \gamma^t c_t $$

    $\gamma$ is `decay`, $t$ counts from 1; policy and reference are weighted alike. With a decay of 1 it is DPO. The
    defaults are those of the authors' example.
    """
    chosen = decayed(policy.chosen_tokens - reference.chosen_tokens, decay)
    return -logsigmoid(beta * (chosen - decayed(policy.rejected_tokens - reference.rejected_tokens, decay)))


@loss(
    paper="Shao 2025 (D2PO), arXiv:2502.14340",
    equation="as in the authors' code",
    group="token-level",
    grid={"decay": (0.98,)},
    traps=(
        FIRST_TOKENS,
        "weighted sums are divided by the whole token count, so a long answer's mean is nearer to zero than a short "
        "one's",
    ),
)
def d2_simpo(
    policy: TokenLogProbs, *, beta: Positive = 2.0, gamma: NonNegative = 1.0, decay: PositiveShare = 0.98
) -> Tensor:
    r"""SimPO in which a token's weight decays with its position.

    $$ L = -\log\sigma\left(\beta\left(\frac{\tilde c}{|w|} - \frac{\tilde r}{|l|}\right) - \gamma\right),
       \quad \tilde c = \sum_t d^t c_t $$

    $d$ is `decay`, $t$ counts from 1. With a decay of 1 it is SimPO, whose beta and gamma these are.
    """
    chosen = decayed(policy.chosen_tokens, decay) / policy.chosen_len.clamp(min=1)
    rejected = decayed(policy.rejected_tokens, decay) / policy.rejected_len.clamp(min=1)
    return -logsigmoid(beta * (chosen - rejected) - gamma)
