"""Every loss against a row worked by hand. c, r, c0, r0 are sums; the arithmetic stands beside each number."""

from __future__ import annotations

import math

import pytest
import torch

from prefzoo import losses
from prefzoo.types import LogProbs


def logprobs(chosen: float, rejected: float, chosen_len: int = 5, rejected_len: int = 4) -> LogProbs:
    double = torch.float64
    return LogProbs(
        torch.tensor([chosen], dtype=double),
        torch.tensor([rejected], dtype=double),
        torch.tensor([chosen_len]),
        torch.tensor([rejected_len]),
    )


# policy: c = -10 over 5 tokens, r = -16 over 4; reference: c0 = -12, r0 = -8.
# h = (-10 + 16) - (-12 + 8) = 6 + 4 = 10; means: c/5 = -2, r/4 = -4, c0/5 = -2.4, r0/4 = -2
POLICY, REFERENCE = logprobs(-10, -16), logprobs(-12, -8)

GOLDEN = [
    ("dpo", {"beta": 0.1}, math.log1p(math.exp(-1))),  # -log sigma(0.1 * 10)
    # -0.8 log sigma(1) - 0.2 log sigma(-1); -log sigma(-1) = -log sigma(1) + 1
    ("cdpo", {"beta": 0.1, "flip_rate": 0.2}, math.log1p(math.exp(-1)) + 0.2),
    # (0.8 a - 0.2 (a + 1)) / 0.6 with a = -log sigma(1): (0.6 a - 0.2) / 0.6 = a - 1/3
    ("robust", {"beta": 0.1, "flip_rate": 0.2}, math.log1p(math.exp(-1)) - 1 / 3),
    ("ipo", {"tau": 0.25}, 64.0),  # (10 - 1/0.5)^2 = 8^2
    # h = (-2 + 2.4) - (-4 + 2) = 0.4 + 2 = 2.4; (2.4 - 1/0.5)^2 = 0.4^2
    ("ipo_mean", {"tau": 0.25}, 0.16),
    ("hinge", {"beta": 0.05}, 0.5),  # 1 - 0.05 * 10
    ("simpo", {"beta": 2.0, "gamma": 1.0}, math.log1p(math.exp(-3))),  # 2 * (-2 + 4) - 1 = 3
    # -log sigma(0.5 * 6) + 0.1 * 2
    ("cpo", {"beta": 0.5, "alpha": 0.1}, math.log1p(math.exp(-3)) + 0.2),
    # odds(-2) - odds(-4) = 2 - log(1 - e^-2) + log(1 - e^-4) = 2 + log(1 + e^-2); sigma of it: (1+e^-2)/(1+e^-2+e^-2)
    # as e^-(2 + log(1 + e^-2)) = e^-2 / (1 + e^-2); -log sigma = log((1 + 2 e^-2) / (1 + e^-2))
    ("orpo", {"weight": 0.5}, 2 + 0.5 * math.log((1 + 2 * math.exp(-2)) / (1 + math.exp(-2)))),
    ("sft", {}, 2.0),
]


def value(name: str, policy: LogProbs, reference: LogProbs, **knobs: float) -> torch.Tensor:
    found = losses.get(name)
    return found.each(policy, reference if found.needs_reference else None, found.Params(**knobs))


@pytest.mark.parametrize(("name", "knobs", "expected"), GOLDEN, ids=[g[0] for g in GOLDEN])
def test_worked_by_hand(name: str, knobs: dict[str, float], expected: float) -> None:
    assert value(name, POLICY, REFERENCE, **knobs).item() == pytest.approx(expected, rel=1e-12)


def test_every_loss_has_a_golden_row() -> None:
    assert {g[0] for g in GOLDEN} == set(losses.names())


@pytest.mark.parametrize("name", losses.names())
def test_value_at_reference_is_as_declared(name: str) -> None:
    found = losses.get(name)
    if found.at_reference is None:
        assert not found.needs_reference
        return
    params = found.Params()
    at_start = found.each(POLICY, POLICY, params).item()
    assert at_start == pytest.approx(found.at_reference(params), rel=1e-12)
