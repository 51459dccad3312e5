"""Agreement with Liger's chunked losses where liger-kernel is installed; it asks for triton, so `make test` skips."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from zoo_inputs import random_world

from prefzoo import losses

liger = pytest.importorskip("liger_kernel.chunked_loss", reason="liger-kernel is not installed", exc_type=ImportError)

CASES = [
    ("dpo", {"beta": 0.3}, "sigmoid", {}),
    ("robust", {"beta": 0.3, "flip_rate": 0.1}, "robust", {"label_smoothing": 0.1}),
    ("exo_pair", {"beta": 0.3, "epsilon": 0.01}, "exo_pair", {"label_smoothing": 0.01}),
    ("nca_pair", {"beta": 0.3}, "nca_pair", {}),
    ("bco_pair", {"beta": 0.3}, "bco_pair", {}),
    ("sppo_hard", {"beta": 0.3}, "sppo_hard", {}),
    ("apo_zero", {"beta": 0.3}, "apo_zero", {}),
    ("apo_down", {"beta": 0.3}, "apo_down", {}),
    ("discopop", {"beta": 0.3, "tau": 0.1}, "discopop", {"discopop_tau": 0.1}),
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "knobs", "kind", "settings"), CASES, ids=[case[0] for case in CASES])
def test_dpo_family(name: str, knobs: dict[str, Any], kind: str, settings: dict[str, Any], seed: int) -> None:
    from liger_kernel.chunked_loss.dpo_loss import LigerFusedLinearDPOFunction

    world, found = random_world(seed), losses.get(name)
    p, r = world.policy, world.reference
    theirs = LigerFusedLinearDPOFunction.preference_loss_fn(
        p.chosen, p.rejected, torch.zeros(12, 1), r.chosen, r.rejected, beta=0.3, loss_type=kind, **settings
    )[0]
    assert float(world.each(found, found.Params(**knobs)).mean()) == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_reference_free(seed: int) -> None:
    from liger_kernel.chunked_loss.cpo_loss import LigerFusedLinearCPOFunction
    from liger_kernel.chunked_loss.simpo_loss import LigerFusedLinearSimPOFunction

    world, target = random_world(seed), torch.zeros(12, 1)
    means, sums = world.policy.per_token(), world.policy
    simpo, plain = losses.get("simpo"), losses.get("dpo_ref_free")
    theirs = LigerFusedLinearSimPOFunction.preference_loss_fn(means.chosen, means.rejected, target, beta=2.0, gamma=1.0)
    assert float(world.each(simpo).mean()) == pytest.approx(float(theirs[0]), rel=1e-6)
    theirs = LigerFusedLinearCPOFunction.preference_loss_fn(sums.chosen, sums.rejected, target, beta=0.1)
    assert float(world.each(plain).mean()) == pytest.approx(float(theirs[0]), rel=1e-6)
