"""Agreement with TRL 1.16 to 1e-6 over random tensors, for every loss it has. Its trainers run on stubs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from zoo_inputs import World, random_world

from prefzoo import losses
from prefzoo.types import Mismatched, VocabLogProbs

SEEDS = (0, 1, 2)
# TRL warns when a test is the first to import one of its experimental trainers
pytestmark = pytest.mark.filterwarnings("ignore:You are importing from .trl.experimental")


class Preset(torch.nn.Module):
    """A model whose outputs were decided beforehand."""

    def __init__(self, log_probs: Tensor, log_sum_sq: Tensor | None = None) -> None:
        super().__init__()
        self.is_gradient_checkpointing = False
        zero = torch.zeros_like(log_probs)
        self.outputs = SimpleNamespace(
            log_probs=log_probs,
            entropy=zero,
            mean_logits=zero,
            is_top1=zero.bool(),
            log_sum_sq_probs=zero if log_sum_sq is None else log_sum_sq,
        )

    def forward(self, **_: Any) -> SimpleNamespace:
        return self.outputs


def whole(value: Any) -> Any:
    return value


ACCELERATOR = SimpleNamespace(device=torch.device("cpu"), gather=whole, gather_for_metrics=whole, unwrap_model=whole)


def stub(**settings: Any) -> SimpleNamespace:
    metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    defaults = {
        "accelerator": ACCELERATOR,
        "aux_loss_enabled": False,
        "_metrics": metrics,
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return SimpleNamespace(**{**defaults, **settings})


def both(side: VocabLogProbs, field: str) -> Tensor:
    return torch.cat((getattr(side, f"chosen_{field}"), getattr(side, f"rejected_{field}")))


def completion(world: World) -> Tensor:
    """(2B, T+1): one prompt token in front."""
    tokens = both(world.policy, "tokens")
    lengths = both(world.policy, "len")
    inside = torch.arange(tokens.shape[1]) < lengths[:, None]
    return torch.cat((torch.zeros(len(tokens), 1, dtype=torch.bool), inside), 1).long()


def dpo_trainer(world: World, types: list[str], **settings: Any) -> float:
    from trl.trainer.dpo_trainer import DPOTrainer

    policy = Preset(both(world.policy, "tokens"), both(world.policy, "log_sum_sq"))
    defaults = {
        "model": policy,
        "ref_model": Preset(both(world.reference, "tokens")),
        "ld_alpha": None,
        "precompute_ref_logps": False,
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
        "loss_types": types,
        "loss_weights": [1.0] * len(types),
        "beta": 0.1,
        "label_smoothing": 0.0,
        "use_weighting": False,
        "args": SimpleNamespace(discopop_tau=settings.pop("tau", 0.05), gradient_checkpointing_kwargs=None),
    }
    mask = completion(world)
    inputs = {"input_ids": mask, "attention_mask": torch.ones_like(mask), "completion_mask": mask}
    return float(DPOTrainer._compute_loss(stub(**{**defaults, **settings}), policy, inputs, False))


@dataclass(frozen=True)
class Case:
    name: str
    knobs: dict[str, Any]
    types: tuple[str, ...]
    settings: dict[str, Any]
    even: bool = False  # answers of one length
    dtype: torch.dtype = torch.float64

    def __str__(self) -> str:
        return f"{self.name}-{'-'.join(f'{k}{v}' for k, v in self.knobs.items())}"


def same_beta(name: str, trl: str, *betas: float) -> list[Case]:
    return [Case(name, {"beta": b}, (trl,), {"beta": b}) for b in betas]


CASES = [
    *same_beta("dpo", "sigmoid", 0.01, 0.1, 0.5),
    *same_beta("hinge", "hinge", 0.05, 0.2),
    *same_beta("nca_pair", "nca_pair", 0.01, 0.2),
    *same_beta("bco_pair", "bco_pair", 0.01, 0.2),
    *same_beta("sppo_hard", "sppo_hard", 0.001, 0.1),
    *same_beta("apo_zero", "apo_zero", 0.1, 0.5),
    *same_beta("apo_down", "apo_down", 0.1, 0.5),
    *same_beta("dpo_norm", "sigmoid_norm", 0.1, 5.0),
    *same_beta("aot", "aot", 0.01, 0.3),
    *same_beta("aot_unpaired", "aot_unpaired", 0.01, 0.3),
    *[Case("ipo_mean", {"tau": t}, ("ipo",), {"beta": t}) for t in (0.01, 0.1, 1.0)],
    *[Case("robust", {"flip_rate": e}, ("robust",), {"label_smoothing": e}) for e in (0.0, 0.1, 0.4)],
    *[
        Case(name, {"beta": 0.2, "flip_rate": e}, (name,), {"beta": 0.2, "label_smoothing": e})
        for name in ("aot", "aot_unpaired")
        for e in (0.1, 0.3)
    ],
    *[
        Case("exo_pair", {"beta": b, "epsilon": e}, ("exo_pair",), {"beta": b, "label_smoothing": e})
        for b, e in ((0.1, 1e-3), (0.5, 0.1))
    ],
    *[
        Case("discopop", {"beta": b, "tau": t}, ("discopop",), {"beta": b, "tau": t})
        for b, t in ((0.05, 0.05), (0.2, 0.5))
    ],
    Case("fdpo_forward_kl", {"beta": 0.1}, ("sigmoid",), {"f_divergence_type": "forward_kl"}),
    Case("fdpo_js", {"beta": 0.3}, ("sigmoid",), {"f_divergence_type": "js_divergence", "beta": 0.3}),
    *[
        # TRL's coefficient is 1 - alpha, and its code takes fp32 alone
        Case(
            "fdpo_alpha",
            {"beta": 0.1, "alpha": a},
            ("sigmoid",),
            {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 1 - a},
            dtype=torch.float32,
        )
        for a in (0.3, 0.5, 0.7)
    ],
    *[Case("ld_dpo", {"alpha": a}, ("sigmoid",), {"ld_alpha": a}) for a in (0.0, 0.5, 1.0)],
    Case("sft", {}, ("sft",), {}, even=True),
    Case("rpo", {"alpha": 0.3}, ("sigmoid", "sft"), {"loss_weights": [1.0, 0.3]}, even=True),
    Case("mpo", {}, ("sigmoid", "bco_pair", "sft"), {"loss_weights": [0.8, 0.2, 1.0]}, even=True),
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_dpo_trainer(case: Case, seed: int) -> None:
    loss, world = losses.get(case.name), random_world(seed, even=case.even).to(case.dtype)
    ours = float(world.each(loss, loss.Params(**case.knobs)).mean())
    assert ours == pytest.approx(dpo_trainer(world, list(case.types), **case.settings), rel=1e-6, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_wpo_is_theirs_where_the_clamp_does_not_hold(seed: int) -> None:
    """Theirs has none; ours is at most theirs."""
    loss, world = losses.get("wpo"), random_world(seed)
    params = loss.Params(beta=0.1)
    assert float(world.each(loss, params).mean()) <= dpo_trainer(world, ["sigmoid"], use_weighting=True)
    low = world.moved(torch.full((6,), -30.0), torch.full((6,), -30.0))  # weights below 1
    theirs = dpo_trainer(low, ["sigmoid"], use_weighting=True)
    assert float(low.each(loss, params).mean()) == pytest.approx(theirs, rel=1e-6)


def cpo_trainer(world: World, kind: str, *, sums: bool, beta: float, gamma: float = 0.0, alpha: float = 0.0) -> Tensor:
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    policy = world.policy if sums else world.policy.per_token()
    me = SimpleNamespace(
        alpha=alpha, beta=beta, loss_type=kind, simpo_gamma=gamma, label_smoothing=0.0, accelerator=ACCELERATOR
    )
    each: Tensor = CPOTrainer.cpo_loss(me, policy.chosen, policy.rejected)[0]
    return each


@pytest.mark.parametrize("seed", SEEDS)
def test_cpo_trainer(seed: int) -> None:
    world = random_world(seed)
    nll = -world.policy.per_token().chosen
    for beta, gamma in ((2.0, 1.0), (10.0, 3.0), (0.1, 0.5)):
        expected = {
            "simpo": cpo_trainer(world, "simpo", sums=False, beta=beta, gamma=gamma),
            "cpo_simpo": cpo_trainer(world, "simpo", sums=False, beta=beta, gamma=gamma) + nll,
        }
        for alpha in (0.25, -0.5, 1.0):
            ours = world.each(losses.get("alphapo"), losses.get("alphapo").Params(beta=beta, gamma=gamma, alpha=alpha))
            theirs = cpo_trainer(world, "simpo", sums=False, beta=beta, gamma=gamma, alpha=alpha)
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        for name, theirs in expected.items():
            loss = losses.get(name)
            ours = world.each(loss, loss.Params(beta=beta, gamma=gamma))
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for beta in (0.01, 0.1, 1.0):
        plain = cpo_trainer(world, "sigmoid", sums=True, beta=beta)
        for name, theirs in (("dpo_ref_free", plain), ("cpo", plain + nll)):
            loss = losses.get(name)
            torch.testing.assert_close(world.each(loss, loss.Params(beta=beta)), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weight", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_orpo_trainer(seed: int, weight: float) -> None:
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    world, loss = random_world(seed), losses.get("orpo")
    means = world.policy.per_token()
    me = SimpleNamespace(beta=weight, accelerator=ACCELERATOR)
    theirs = -ORPOTrainer.odds_ratio_loss(me, means.chosen, means.rejected)[0]  # it returns +beta log sigma, in fp32
    ours = world.each(loss, loss.Params(weight=weight)) + means.chosen
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-6, atol=1e-6)
    align = losses.get("orpo_align")
    torch.testing.assert_close(weight * world.each(align, align.Params(beta=1.0)), ours)


def kto_trainer(world: World, **settings: Any) -> float:
    from trl.trainer.kto_trainer import KTOTrainer

    policy = Preset(both(world.policy, "tokens"))
    mask = completion(world)
    inputs = {
        "input_ids": mask,
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "label": torch.tensor([True] * len(world) + [False] * len(world)),
        "ref_logps": torch.cat((world.reference.chosen, world.reference.rejected)),
        "ref_KL_logps": world.mismatched.reference,
    }
    defaults = {
        "model": policy,
        "precompute_ref_logps": True,
        "calculate_KL": True,
        "_compute_kl_logps": lambda model, batch: world.mismatched.policy,
        "loss_type": "kto",
        "beta": 0.1,
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
    }
    return float(KTOTrainer._compute_loss(stub(**{**defaults, **settings}), policy, inputs, False))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("beta", "desirable", "undesirable"), [(0.1, 1.0, 1.0), (0.5, 1.33, 1.0), (0.01, 1.0, 2.0)])
def test_kto_trainer(seed: int, beta: float, desirable: float, undesirable: float) -> None:
    world, loss = random_world(seed), losses.get("kto")
    params = loss.Params(beta=beta, desirable=desirable, undesirable=undesirable)
    weights = {"beta": beta, "desirable_weight": desirable, "undesirable_weight": undesirable}
    for shift in (0.0, -40.0):  # the KL estimate above and below zero
        moved = replace(world, mismatched=Mismatched(world.mismatched.policy + shift, world.mismatched.reference))
        assert float(moved.each(loss, params).mean()) == pytest.approx(kto_trainer(moved, **weights), rel=1e-6)
    unpaired = losses.get("apo_zero_unpaired")
    theirs = kto_trainer(world, loss_type="apo_zero_unpaired", calculate_KL=False, beta=beta)
    assert float(world.each(unpaired, unpaired.Params(beta=beta)).mean()) == pytest.approx(theirs, rel=1e-6)


# The traps: where TRL's name or knob means another loss than ours of the same name.


def test_trl_lost_cdpo() -> None:
    """Its `sigmoid` takes label_smoothing and does nothing with it."""
    world, loss = random_world(0), losses.get("cdpo")
    smoothed = dpo_trainer(world, ["sigmoid"], label_smoothing=0.1)
    assert smoothed == dpo_trainer(world, ["sigmoid"], label_smoothing=0.0)
    assert float(world.each(loss, loss.Params(beta=0.1, flip_rate=0.1)).mean()) != pytest.approx(smoothed, rel=1e-3)


def test_trl_lost_the_shift_of_bco() -> None:
    world = random_world(0).moved(torch.full((6,), 30.0), torch.full((6,), 30.0))
    shifted, plain = losses.get("bco_pair_shift"), losses.get("bco_pair")
    theirs = dpo_trainer(world, ["bco_pair"], beta=0.1)
    assert float(world.each(plain, plain.Params(beta=0.1)).mean()) == pytest.approx(theirs)
    assert float(world.each(shifted, shifted.Params(beta=0.1)).mean()) != pytest.approx(theirs, rel=1e-2)


def test_trl_ipo_is_the_mean_reading() -> None:
    world, loss = random_world(0), losses.get("ipo")
    assert float(world.each(loss, loss.Params(tau=0.1)).mean()) != pytest.approx(dpo_trainer(world, ["ipo"]), rel=0.1)


def test_trl_discopop_is_nan_where_ours_is_not() -> None:
    world = random_world(0).to(torch.float32).moved(torch.full((6,), -3000.0), torch.zeros(6))
    loss = losses.get("discopop")
    assert dpo_trainer(world, ["discopop"], beta=0.05) != dpo_trainer(world, ["discopop"], beta=0.05)  # NaN
    assert world.each(loss).isfinite().all()


def test_trl_ipo_and_norm_default_beta_is_not_the_papers() -> None:
    assert losses.get("dpo_norm").Params().model_dump() == {"beta": 5.0}
    assert losses.get("simpo").Params().model_dump() == {"beta": 2.0, "gamma": 1.0}
    assert losses.get("sppo_hard").Params().model_dump() == {"beta": 0.001}
