"""Agreement with Liger's chunked losses, which are plain torch: read without the rest of the package and its triton."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from zoo_inputs import World, random_world

from prefzoo import losses
from prefzoo.types import Answers

PARENTS = ("liger_kernel", "liger_kernel.chunked_loss")

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


@pytest.fixture
def liger() -> Iterator[Any]:
    """Gives a function of Liger by its module and class.

    The packages' own `__init__` import triton kernels, which need a GPU toolchain: empty packages with their search
    paths stand in for them, and all that was imported is put back afterwards.
    """
    spec = find_spec("liger_kernel")
    if spec is None or spec.origin is None:
        pytest.skip("liger-kernel is not installed; `make install-dev` does it")
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "liger_kernel"}
    for name in before:
        del sys.modules[name]
    for name in PARENTS:
        stand_in = ModuleType(name)
        stand_in.__path__ = [str(Path(spec.origin).parent.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = stand_in
    yield lambda module, name: getattr(import_module(f"liger_kernel.chunked_loss.{module}"), name)
    for name in [name for name in sys.modules if name.split(".")[0] == "liger_kernel"]:
        del sys.modules[name]
    sys.modules.update(before)


def agree(world: World, name: str, knobs: dict[str, Any], theirs: torch.Tensor) -> None:
    loss = losses.get(name)
    assert float(world.each(loss, loss.Params(**knobs)).mean()) == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "knobs", "kind", "settings"), CASES, ids=[case[0] for case in CASES])
def test_dpo_family(
    liger: Any, name: str, knobs: dict[str, Any], kind: str, settings: dict[str, Any], seed: int
) -> None:
    world = random_world(seed)
    p, r = world.policy, world.reference
    theirs = liger("dpo_loss", "LigerFusedLinearDPOFunction").preference_loss_fn(
        p.chosen, p.rejected, torch.zeros(12, 1), r.chosen, r.rejected, beta=0.3, loss_type=kind, **settings
    )[0]
    agree(world, name, knobs, theirs)


@pytest.mark.parametrize("seed", [0, 1])
def test_reference_free(liger: Any, seed: int) -> None:
    world, target = random_world(seed), torch.zeros(12, 1)
    means, sums = world.policy.per_token(), world.policy
    simpo = liger("simpo_loss", "LigerFusedLinearSimPOFunction")
    theirs = simpo.preference_loss_fn(means.chosen, means.rejected, target, beta=2.0, gamma=1.0)
    agree(world, "simpo", {"beta": 2.0, "gamma": 1.0}, theirs[0])
    cpo = liger("cpo_loss", "LigerFusedLinearCPOFunction")
    theirs = cpo.preference_loss_fn(sums.chosen, sums.rejected, target, beta=0.1)
    agree(world, "dpo_ref_free", {"beta": 0.1}, theirs[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_odds(liger: Any, seed: int) -> None:
    """Liger's ORPO gives the odds-ratio term alone, negated and weighed; its likelihood is added elsewhere."""
    world = random_world(seed)
    means = world.policy.per_token()
    orpo = liger("orpo_loss", "LigerFusedLinearORPOFunction")
    theirs = orpo.preference_loss_fn(means.chosen, means.rejected, torch.zeros(12, 1), beta=1.0)
    agree(world, "orpo_align", {"beta": 1.0}, theirs[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_kto(liger: Any, seed: int) -> None:
    """Liger is given the drift that prefzoo takes from the mismatched rows."""
    world = random_world(seed)
    policy, reference = Answers.from_pairs(world.policy), Answers.from_pairs(world.reference)
    drift = (world.mismatched.policy - world.mismatched.reference).mean().clamp(min=0)
    theirs = liger("kto_loss", "LigerFusedLinearKTOFunction").preference_loss_fn(
        policy.logps, policy.desirable, torch.zeros(len(policy), 1), reference.logps, beta=0.3, kl=drift
    )[0]
    agree(world, "kto", {"beta": 0.3}, theirs)


def test_nothing_of_liger_stays() -> None:
    assert all(sys.modules[name].__spec__ is not None for name in PARENTS if name in sys.modules)
