"""Every loss against rows worked by hand, with the arithmetic beside each number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import exp, log, log1p
from typing import Any

import pytest
import torch
from zoo_inputs import World, padded, vocab

from prefzoo import losses
from prefzoo.types import Mismatched, RankedScores, TokenKL

CHOSEN, REJECTED = [[-1.0, -1, -2, -2, -4], [-2.0, -3, -4]], [[-3.0, -3, -4, -6], [-1.0, -2, -3]]
REF_CHOSEN, REF_REJECTED = [[-2.0, -2, -2, -3, -3], [-1.0, -2, -3]], [[-1.0, -2, -2, -3], [-2.0, -3, -4]]
ENTROPY = [[1.0, 1, 2, 3, 3], [1.0, 1, 1]], [[1.0, 1, 1, 1], [2.0, 2, 2]]
SQUARES = [[-1.0, -2, -2, -2, -1], [-1.0, -1, -1]], [[-3.0, -4, -4, -4], [-1.0, -1, -1]]
LENGTHS = torch.tensor([5, 3]), torch.tensor([4, 3])


def world(chosen: list[list[float]] = CHOSEN) -> World:
    statistics = tuple(padded(rows) for rows in (*ENTROPY, *SQUARES))
    double = {"dtype": torch.float64}
    return World(
        vocab(padded(chosen), padded(REJECTED), *LENGTHS, statistics),
        vocab(padded(REF_CHOSEN), padded(REF_REJECTED), *LENGTHS, statistics),
        RankedScores(*(torch.tensor(column, **double) for column in ([2.0, 1.0], [0.5, 0.0], [1.0, 0.75], [0.5, 0.0]))),
        TokenKL(torch.tensor([3.0, 1.0], **double), torch.tensor([1.0, 2.0], **double)),
        Mismatched(torch.tensor([-20.0, -30.0], **double), torch.tensor([-24.0, -32.0], **double)),
    )


# First pair, in sums: c = -10 over 5 tokens, r = -16 over 4; reference c0 = -12, r0 = -8.
#   p_w = c - c0 = 2; p_l = r - r0 = -8; h = p_w - p_l = 10; c - r = 6; c0 - r0 = -4
#   means: c/5 = -2, r/4 = -4, c0/5 = -2.4, r0/4 = -2
# Second pair: c = -9 over 3, r = -6 over 3; c0 = -6, r0 = -9.
#   p_w = -3; p_l = 3; h = -6; c - r = -3; c0 - r0 = 3; means: -3, -2, -2, -3
TWO = world()
ONE = TWO.take([0])
EVEN = world([[-1.6, -1.6, -1.6, -2.6, -2.6], CHOSEN[1]]).take([0])  # each chosen token 0.4 above the reference's


TIED = replace(
    TWO, scores=replace(TWO.scores, rejected=torch.tensor([0.5, 1.0], dtype=torch.float64))
)  # the second pair


def mirror(margins: tuple[float, float], gamma: float, tau: float) -> tuple[float, float]:
    """The targets of two pairs: 20 steps of multiplicative weights, written out for one ratio of the two."""
    one = 0.5
    for _ in range(20):
        slopes = [
            tau * (1 + log(2 * (p + 1e-10))) + gamma / (1 + exp(m - gamma * 2 * p))
            for p, m in zip((one, 1 - one), margins, strict=True)
        ]
        ratio = (1 - one) / one * exp(0.5 / tau * (slopes[0] - slopes[1]))
        one = 1 / (1 + ratio)
    return gamma * 2 * one, gamma * 2 * (1 - one)


def sp(x: float) -> float:
    """-log sigma(-x)."""
    return log1p(exp(x))


def s(x: float) -> float:
    return 1 / (1 + exp(-x))


@dataclass(frozen=True)
class Row:
    name: str
    knobs: dict[str, Any]
    expected: float | tuple[float, ...]
    world: World = field(default=ONE, repr=False)


GOLDEN = [
    Row("dpo", {"beta": 0.1}, sp(-1)),  # -log sigma(0.1 * 10)
    # -0.8 log sigma(1) - 0.2 log sigma(-1); -log sigma(-1) = -log sigma(1) + 1
    Row("cdpo", {"beta": 0.1, "flip_rate": 0.2}, sp(-1) + 0.2),
    # (0.8 a - 0.2 (a + 1)) / 0.6 with a = -log sigma(1): (0.6 a - 0.2) / 0.6 = a - 1/3
    Row("robust", {"beta": 0.1, "flip_rate": 0.2}, sp(-1) - 1 / 3),
    # x = 1: sigma(1) (log sigma(1) - log 0.9) + sigma(-1) (log sigma(-1) - log 0.1)
    Row("exo_pair", {"beta": 0.1, "epsilon": 0.1}, s(1) * (-sp(-1) - log(0.9)) + s(-1) * (-sp(1) - log(0.1))),
    # x = 1, m = sigma(1 / 0.5): (1 - m) * -log sigma(1) + m e^-1
    Row("discopop", {"beta": 0.1, "tau": 0.5}, (1 - s(2)) * sp(-1) + s(2) * exp(-1)),
    # first: c > c0, no penalty: 0.1 * 10; second: c0 - c = 3: 0.1 * (-6 - 2 * 3) = -1.2
    Row("dpop", {"beta": 0.1, "weight": 2.0}, (sp(-1), sp(1.2)), TWO),
    # targets +-1: (2 - 1)^2 + (-8 + 1)^2 = 50; -log sigma(10) + 0.1 * 50
    Row("cal_dpo", {"beta": 0.5, "weight": 0.1}, sp(-10) + 5),
    Row("ipo", {"tau": 0.25}, 64.0),  # (10 - 1/0.5)^2 = 8^2
    # h = (-2 + 2.4) - (-4 + 2) = 0.4 + 2 = 2.4; (2.4 - 1/0.5)^2 = 0.4^2
    Row("ipo_mean", {"tau": 0.25}, 0.16),
    Row("dpo_norm", {"beta": 0.5}, sp(-1.2)),  # 0.5 * 2.4
    Row("r_dpo", {"beta": 0.1, "alpha": 0.3}, sp(-1.3)),  # 1 + 0.3 * (5 - 4)
    Row("hinge", {"beta": 0.05}, 0.5),  # 1 - 0.05 * 10
    Row("gpo_exp", {"beta": 0.1}, exp(-1)),
    Row("gpo_quadratic", {"beta": 0.05}, 0.25),  # (1 - 0.5)^2
    Row("gpo_savage", {"beta": 0.1}, 1 / (1 + exp(1)) ** 2),
    # rewards 1 and -4: -log sigma(1) - 0.5 log sigma(-1) - 0.5 log sigma(4)
    Row("nca_pair", {"beta": 0.5}, sp(-1) + 0.5 * sp(1) + 0.5 * sp(-4)),
    Row("bco_pair", {"beta": 0.5}, sp(-1) + sp(-4)),  # -log sigma(1) - log sigma(4)
    Row("sppo_hard", {"beta": 0.5}, 50.0),  # targets +-1: 1 + 49
    Row("apo_zero", {"beta": 0.5}, 1 - s(1) + s(-4)),
    Row("apo_down", {"beta": 0.5}, s(1) + 1 - s(5)),
    Row("fdpo_forward_kl", {"beta": 1e-3}, sp(-1e-3 * (exp(8) - exp(-2)))),  # (1 - e^-2) - (1 - e^8)
    Row("fdpo_js", {"beta": 0.5}, sp(-0.5 * (sp(8) - sp(-2)))),  # log sigma(2) - log sigma(-8)
    # (1 - e^-1)/0.5 - (1 - e^4)/0.5 = 2 (e^4 - e^-1)
    Row("fdpo_alpha", {"beta": 0.01, "alpha": 0.5}, sp(-0.02 * (exp(4) - exp(-1)))),
    # e^2 + 2 - (e^-8 - 8), half of it is 8.7: below the clip at 20
    Row("chi_po", {"beta": 0.5, "reward_range": 10.0}, sp(-0.5 * (exp(2) + 10 - exp(-8)))),
    Row("squared_po", {"beta": 1e-4}, sp(-1e-4 * (2 * exp(-2) + 8 * exp(8)))),  # 2 e^-2 - (-8 e^8)
    Row("simpo", {"beta": 2.0, "gamma": 1.0}, sp(-3)),  # 2 * (-2 + 4) - 1 = 3
    Row("dpo_ref_free", {"beta": 0.5}, sp(-3)),  # 0.5 * 6
    # R(-2) = 2 (1 - e), R(-4) = 2 (1 - e^2); 2 * (2 e^2 - 2 e) - 1
    Row("alphapo", {"beta": 2.0, "gamma": 1.0, "alpha": 0.5}, sp(1 - 4 * (exp(2) - exp(1)))),
    Row("repo", {"gamma": 2.5}, 0.5),  # 2.5 - (-2 + 4)
    Row("simper", {}, -exp(-2) + exp(-4)),
    # odds(-2) - odds(-4) = 2 - log(1 - e^-2) + log(1 - e^-4) = 2 + log(1 + e^-2)
    Row("orpo_align", {"beta": 0.5}, sp(-0.5 * (2 + log(1 + exp(-2))))),
    # sigma(odds(x)) = e^x: -log e^-2 - log(1 - e^-4)
    Row("asft", {"beta": 1.0}, 2 - log(1 - exp(-4))),
    Row("sft", {}, 2.0),
    Row("cpo", {"beta": 0.5, "alpha": 0.1}, sp(-3) + 0.2),  # -log sigma(0.5 * 6) + 0.1 * 2
    Row("cpo_simpo", {"beta": 2.0, "gamma": 1.0, "alpha": 0.5}, sp(-3) + 1),
    # sigma of odds difference: e^-(2 + log(1 + e^-2)) = e^-2 / (1 + e^-2); -log sigma = log((1 + 2 e^-2) / (1 + e^-2))
    Row("orpo", {"weight": 0.5}, 2 + 0.5 * log((1 + 2 * exp(-2)) / (1 + exp(-2)))),
    Row("slic_hf", {"delta": 8.0, "weight": 0.1}, 3.0),  # max(0, 8 + 10 - 16) + 0.1 * 10
    Row("rrhf", {"weight": 0.5}, (1.0, 2.5), TWO),  # 0 + 0.5 * 2; (-2 + 3) + 0.5 * 3
    Row("pro", {"weight": 0.5}, sp(-2) + 1),
    Row("rpo", {"beta": 0.1, "alpha": 0.5}, sp(-1) + 1),
    # 0.8 * -log sigma(5) + 0.2 * (-log sigma(1) - log sigma(4)) + 2
    Row("mpo", {"beta": 0.5}, 0.8 * sp(-5) + 0.2 * (sp(-1) + sp(-4)) + 2),
    Row("odpo", {"beta": 0.1, "alpha": 0.5}, sp(0.5 * log(1.5) - 1)),  # gap of scores 2 - 0.5
    Row("margin_dpo", {"beta": 0.1, "scale": 2.0}, sp(2)),  # 1 - 2 * 1.5
    # logits 3 of the scores and 1 of the policy
    Row("rpo_bwd_kl", {"beta": 0.1, "scale": 2.0}, s(3) * log(s(3) / s(1)) + s(-3) * log(s(-3) / s(-1))),
    Row("rpo_fwd_kl", {"beta": 0.1, "scale": 2.0}, s(1) * log(s(1) / s(3)) + s(-1) * log(s(-1) / s(-3))),
    Row("rpo_sq", {"beta": 0.1, "scale": 2.0}, 4.0),  # (1 - 3)^2
    # m = 4; log-ratios 1, 1, 0, 1 and beyond -1: 3 + 0.5 * -1; less p_l: 2.5 + 8
    Row("ld_dpo", {"beta": 0.1, "alpha": 0.5}, sp(-1.05)),
    # policy: -6 + 0.5 * -4 + 16 = 8, reference whole: -4; 8 + 4 = 12
    Row("ld_dpo_policy", {"beta": 0.1, "alpha": 0.5}, sp(-1.2)),
    Row("sampo", {"beta": 0.1}, sp(-0.96), EVEN),  # whichever 4 of the 5: 4 * 0.4 + 8
    Row("tdpo1", {"beta": 0.1}, sp(-1.2)),  # 10 - (1 - 3)
    Row("tdpo2", {"beta": 0.1, "alpha": 0.25}, sp(-1.05)),  # 10 - 0.25 * (1 - 3)
    # log weights (-10 + 8) / 5 = -0.4 and (-16 + 15) / 4 = -0.25
    Row("wpo", {"beta": 0.1}, exp(-0.65) * sp(-1)),
    # entropies 2 and 1, together 1.5; phi = -0.5 log(1.5 / log 1000)
    Row("mallows_dpo", {"beta": 0.1, "k": 0.5, "vocabulary": 1000}, sp(0.5 * log(1.5 / log(1000)))),
    Row("mallows_ipo", {"tau": 0.25, "k": 0.5, "vocabulary": 1000}, (-5 * log(1.5 / log(1000)) - 2) ** 2),
    Row(
        "unlikelihood",
        {"weight": 0.5},
        2 - 0.5 * (2 * log(1 - exp(-3)) + log(1 - exp(-4)) + log(1 - exp(-6))) / 4,
    ),
    # z0 = (4 + 2) / 2 = 3; log-ratios 2, -3 | -8, 3: 1 - sigma(0.5 * (p - 3)) | 1.5 * (1 - sigma(0.5 * (3 - p)))
    Row("kto", {"beta": 0.5, "undesirable": 1.5}, (1 - s(-0.5), 1 - s(-3), 1.5 * (1 - s(5.5)), 0.75), TWO),
    # rewards 1, -1.5 | -4, 1.5: mean -0.75
    Row("bco", {"beta": 0.5}, (sp(-1.75), sp(0.75), sp(-3.25), sp(2.25)), TWO),
    # p = 2, -3 | -8, 3; the last beyond log(6 / 4): -log(2 - 1.5) + 3 * (3 - log 1.5)
    Row("ddro", {"slope": 3.0}, (-2.0, 3.0, -log(2 - exp(-8)), log(2) + 3 * (3 - log(1.5))), TWO),
    # p = 2, -3 | -8, 3: 1.25 log(1 + e^p) - p | 0.75 log(1 + e^p)
    Row("rdro", {"alpha": 0.25}, (1.25 * sp(2) - 2, 1.25 * sp(-3) + 3, 0.75 * sp(-8), 0.75 * sp(3)), TWO),
    Row("apo_zero_unpaired", {"beta": 0.5}, (1 - s(1), s(-4))),
    Row("bco_pair_shift", {"beta": 0.5}, (sp(-1.75) + sp(-3.25), sp(0.75) + sp(2.25)), TWO),
    # margins -3, 6 against -4, 3: by rank 1, 3
    Row("aot", {"beta": 0.5, "flip_rate": 0.1}, (0.9 * sp(-0.5) + 0.1 * sp(0.5), 0.9 * sp(-1.5) + 0.1 * sp(1.5)), TWO),
    # log-ratios -3, 2 against -8, 3: by rank 5, -1
    Row(
        "aot_unpaired",
        {"beta": 0.5, "flip_rate": 0.1},
        (0.9 * sp(-2.5) + 0.1 * sp(2.5), 0.9 * sp(0.5) + 0.1 * sp(-0.5)),
        TWO,
    ),
    # M = 0.1 * mean(10, -6) = 0.2; one of two is kept, -6; beta 1 + 0.1 * (-6 - 0.2) = 0.38; 2 * -log sigma(-2.28)
    Row("beta_dpo", {"beta": 1.0, "alpha": 0.1, "drop": 0.5}, (0.0, 2 * sp(2.28)), TWO),
    # M = 0.2, S = 0.9 + 0.1 * 8 = 1.7; z = 9.8/1.7, -6.2/1.7; 2 * (2 - 0.5 - 0.98), 2 * (-1 - 0.5 + 0.62)
    Row("alpha_dpo", {"beta": 2.0, "alpha": 0.17, "target": 0.5}, (sp(-1.04), sp(1.76)), TWO),
    # beta log Z = 0.5 (log 0.5 + 2); p_w = 2, p_l = -8
    Row("qrpo", {"beta": 0.5}, ((1 - 0.5 * (2 - log(2)) - 1) ** 2 + (0.5 - 0.5 * (2 - log(2)) + 4) ** 2) / 2),
    Row("mappo", {"beta": 0.5}, (sp(-7), sp(3)), TWO),  # 2 + 1.5 * 8; -3 - 1 * 3
    # means: margins 2 and -1, h 2.4 and -2; gaps 1.5 and 1; only the second chosen answer fell, its mean is -3
    Row(
        "uni_dpo",
        {"beta": 0.5, "eta": 2.0, "tau_ref": 1.0, "gamma": 2.0, "weight": 0.1, "tau_good": 1.0},
        (s(3) * s(0) ** 2 * sp(-1.2), s(2) * s(1.5) ** 2 * sp(1) + 0.3),
        TWO,
    ),
    # tokens below the mean probability, e^-1.59 and e^-3.5: -2, -2, -4 and -4, -6; 2 * (-8/3 + 5) - 1
    Row("confpo", {"beta": 2.0, "gamma": 1.0}, sp(1 - 14 / 3)),
    Row("npo", {"beta": 0.5}, 4 * sp(-4)),  # p_l = -8: -4 log sigma(4)
    Row("simnpo", {"beta": 0.5, "gamma": 1.0}, 4 * sp(-1.5)),  # -4 - the target of -1: 0.5 * (4 - 1)
    Row("dpo_shift", {"beta": 0.5, "shift": 0.75}, (sp(-4), sp(2.625)), TWO),  # 2 + 6; -3 - 2.25
    Row("bpo", {"beta": 0.5, "alpha": 0.125}, (sp(-0.5), sp(1.5)), TWO),  # min(2, 1); min(-3, -0.375)
    Row("minor_dpo", {"beta": 0.5}, (sp(-1), sp(3)), TWO),  # 2 - 0; -3 - 3
    Row("c2_dpo", {"beta": 0.1, "weight": 0.5}, (sp(-1) + 18, sp(0.6)), TWO),  # sums 2 - 8 and -3 + 3
    Row("focal_po", {"beta": 0.1, "gamma": 2.0}, s(1) ** 2 * sp(-1)),
    Row("h_dpo", {"beta": 0.1, "alpha": 0.5}, sp(-0.7)),  # 0.5 * 6 + 4
    # log-ratios 1, 1, 0, 1, -1 by halves: 0.78125; -2, -1, -2, -3: -1.6875
    Row("d2po", {"beta": 0.4, "decay": 0.5}, sp(-0.9875)),
    Row("d2_simpo", {"beta": 2.0, "gamma": 0.5, "decay": 0.5}, sp(-0.5625)),  # -1.25 / 5, -3.125 / 4
    # 1 - 0.5; a tie at -0.6: -log[(e - 1) sigma(-1.1) sigma(0.1)]
    Row("dpo_rk", {"beta": 0.1, "alpha": 0.5}, (sp(-0.5), sp(1.1) + sp(-0.1) - log(exp(1) - 1)), TIED),
    Row(
        "dpo_davidson",
        {"beta": 0.1, "nu": 1.5},
        (log(1 + exp(-1) + 3 * exp(-0.5)), log(1 + exp(0.6) + 3 * exp(0.3)) - log(3) - 0.3),
        TIED,
    ),
    Row(
        "gamma_dpo",
        {"beta": 0.1, "gamma": 0.5, "tau": 2.0},
        tuple(sp(t - 0.5 - m) for m, t in zip((1, -0.6), mirror((1, -0.6), 0.5, 2), strict=True)),
        TWO,
    ),
    Row(
        "gamma_simpo",  # margins of the means, 2 and -1
        {"beta": 1.0, "gamma": 1.5, "tau": 3.0},
        tuple(sp(t - m) for m, t in zip((2, -1), mirror((2, -1), 1.5, 3), strict=True)),
        TWO,
    ),
]
# What starts elsewhere for every pair, and why.
NO_VALUE_AT_REFERENCE = {
    "r_dpo": "lengths", "ld_dpo_policy": "lengths", "wpo": "weights", "kto": "weights of the classes",
    "rpo": "likelihood", "mpo": "likelihood", "alpha_dpo": "likelihoods", "h_dpo": "likelihoods",
    "odpo": "scores", "qrpo": "scores", "uni_dpo": "scores", "rdro": "weights of the classes",
    "dpo_rk": "scores", "dpo_davidson": "scores",
    "margin_dpo": "scores", "rpo_bwd_kl": "scores", "rpo_fwd_kl": "scores", "rpo_sq": "scores",
}  # fmt: skip


@pytest.mark.parametrize("row", GOLDEN, ids=[row.name for row in GOLDEN])
def test_worked_by_hand(row: Row) -> None:
    loss = losses.get(row.name)
    expected = row.expected if isinstance(row.expected, tuple) else (row.expected,)
    assert row.world.each(loss, loss.Params(**row.knobs)).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_every_loss_has_a_golden_row() -> None:
    assert {row.name for row in GOLDEN} == set(losses.names())


@pytest.mark.parametrize("name", losses.names())
def test_value_at_reference_is_as_declared(name: str) -> None:
    loss = losses.get(name)
    if loss.at_reference is None:
        assert not loss.needs_reference or name in NO_VALUE_AT_REFERENCE
        return
    params = loss.Params()
    at_start = TWO.at_reference().each(loss, params)
    assert at_start.tolist() == pytest.approx([loss.at_reference(params)] * len(at_start), rel=1e-12)
