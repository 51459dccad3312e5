"""References that follow the policy: TR-DPO and BEMA, of all weights and of adapters."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from one_policy import train_one
from test_train import job, run

from prefzoo.data.batches import collate
from prefzoo.engine.base_model import load_policy
from prefzoo.engine.logprobs import score
from prefzoo.experiment.stages.trainings import _settings
from prefzoo.recipe.sections import Sync, Train
from prefzoo.training.job import with_twin
from prefzoo.training.moving_reference import MovingReference, frozen_twin

LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.3, "targets": ["q_proj", "v_proj"]}


def test_bema_is_the_average_and_the_way_gone_by_the_papers_formula() -> None:
    """Numbers of Block 2025, eq. 3 and 4, computed here in plain floats."""
    policy = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        policy.weight.fill_(2.0)
    live = copy.deepcopy(policy)
    moving = MovingReference(live, policy, Sync.model_validate({"every": 2, "bema": {"lag": 3, "ema_power": 0.7}}))
    average = 2.0
    for step in range(1, 7):
        with torch.no_grad():
            policy.weight.add_(0.5)
        moving.follow(step)
        if step % 2 == 0:
            now = 2.0 + 0.5 * step
            share = (3 + step) ** -0.7
            average = (1 - share) * average + share * now
            expected = average + (3 + step) ** -0.2 * (now - 2.0)
            assert live.weight.item() == pytest.approx(expected, rel=1e-6), step
        elif step == 1:
            assert live.weight.item() == 2.0


def test_a_choice_that_came_later_is_no_part_of_the_identity_until_it_is_made() -> None:
    after = _settings(Train.model_validate({"sync_reference": {"alpha": 0.5}}))
    before = _settings(Train.model_validate({"sync_reference": {"alpha": 0.5, "when": "before"}}))
    assert after["sync_reference"] == {"alpha": 0.5, "every": 512}
    assert before["sync_reference"] == {"alpha": 0.5, "every": 512, "when": "before"}


def test_an_adapters_reference_shares_the_frozen_weights_and_drops_nothing_out(tiny_model: Any) -> None:
    this = job(tiny_model, lora=LORA, sync_reference={})
    policy = load_policy(lambda _: copy.deepcopy(tiny_model), this.train, bf16=False, seed=0)
    twin = frozen_twin(policy)
    theirs = dict(twin.named_parameters())
    for name, p in policy.named_parameters():
        assert (theirs[name] is p) == (not p.requires_grad), name
        assert torch.equal(theirs[name], p)
    assert not any(p.requires_grad for p in theirs.values()) and not any(m.training for m in twin.modules())


@pytest.mark.parametrize("loss", ["dpo", "tdpo2", "kto"])
def test_the_reference_of_an_adapter_follows_it(loss: str, tiny_model: Any, tmp_path: Path) -> None:
    sync = {"alpha": 1.0, "every": 2}
    this = job(tiny_model, loss, steps=3, lora={**LORA, "dropout": 0.0}, learning_rate=1e-2, sync_reference=sync)
    policy = load_policy(lambda _: copy.deepcopy(tiny_model), this.train, bf16=False, seed=0)
    train_one(with_twin(this, policy), policy, tmp_path / "metrics.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["rewards/chosen"] == 0 and rows[1]["rewards/chosen"] != 0
    assert rows[2]["rewards/chosen"] == 0  # alpha 1: after two steps the reference is the policy again


def test_a_reference_that_follows_before_the_update_is_the_policy_of_one_step_earlier(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authors of humanline copy the weights between backward pass and update: step t reads those of step t - 1."""
    weights: list[list[torch.Tensor]] = []
    references: list[list[torch.Tensor]] = []
    follow = MovingReference.follow

    def watching(self: MovingReference, step: int, when: str = "after") -> None:
        follow(self, step, when)
        kept = weights if when == "after" else references
        source = self._policy if when == "after" else self._live
        kept.append([source[name].detach().clone() for name in self._policy])

    monkeypatch.setattr(MovingReference, "follow", watching)
    sync = {"alpha": 1.0, "every": 1, "when": "before"}
    this = job(tiny_model, "dpo with humanline", steps=3, learning_rate=1e-2, sync_reference=sync)
    start = [p.detach().clone() for p in tiny_model.parameters()]
    rows = run(tiny_model, this, tmp_path)
    for step, expected in enumerate([start, *weights[:2]]):
        assert all(map(torch.equal, references[step], expected)), step
    # measured against it, every step but the first starts one update away
    assert rows[0]["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    assert all(abs(row["rewards/chosen"]) > 1e-3 for row in rows[1:])


@pytest.mark.slow
@pytest.mark.parametrize("sync", [{"alpha": 0.5, "every": 2}, {"every": 2, "bema": {}}])
def test_an_adapter_of_all_ranks_follows_as_whole_weights_would(sync: dict[str, Any], tiny_model: Any) -> None:
    """Where only B moves, the average of the products is the product of the averages."""
    this = job(tiny_model, lora={**LORA, "dropout": 0.0}, sync_reference=sync)
    policy = load_policy(lambda _: copy.deepcopy(tiny_model), this.train, bf16=False, seed=0)
    twin, start = frozen_twin(policy), copy.deepcopy(policy).merge_and_unload()
    whole = MovingReference(start, copy.deepcopy(start).requires_grad_(True), this.train.sync_reference)
    small = MovingReference(twin, policy, this.train.sync_reference)
    torch.manual_seed(0)
    for step in (1, 2, 3, 4):
        with torch.no_grad():
            for name, p in policy.named_parameters():
                if "lora_B" in name:
                    p.add_(0.1 * torch.randn_like(p))
            merged = copy.deepcopy(policy).merge_and_unload().state_dict()
            for name, p in whole._policy.items():
                p.copy_(merged[name])
        small.follow(step)
        whole.follow(step)
    batch = collate(this.pairs[:4], "shared", pad=0)
    torch.testing.assert_close(
        score(twin.eval(), batch).chosen, score(start.eval(), batch).chosen, atol=1e-4, rtol=1e-5
    )


def test_a_moving_reference_is_also_that_of_the_mismatched_rows(tiny_model: Any, tmp_path: Path) -> None:
    """kto's KL is zero again after a full step of the reference; under the frozen one it would not be."""
    seen: list[float] = []
    this = job(tiny_model, "kto", steps=3, learning_rate=1e-2, sync_reference={"alpha": 1.0, "every": 2})
    inner = this.loss.fn

    def watching(policy: Any, reference: Any, *args: Any, **kwargs: Any) -> Any:
        mismatched = kwargs["mismatched"]
        seen.append(float((mismatched.policy - mismatched.reference).abs().max()))
        return inner(policy, reference, *args, **kwargs)

    object.__setattr__(this.loss, "fn", watching)
    try:
        run(tiny_model, this, tmp_path)
    finally:
        object.__setattr__(this.loss, "fn", inner)
    assert seen[0] == pytest.approx(0, abs=1e-4) and seen[1] > 1e-2
    assert seen[2] == pytest.approx(0, abs=1e-4)
