"""`train.optimizer`: what each updates by which rule, resuming, what is refused, and what it takes."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from first_fast import first_fast
from test_memory_model import SHAPE
from test_resume import kill, same
from test_resume import run as resumable
from test_train import job, run

from prefzoo.errors import UserError
from prefzoo.recipe.sections import Train
from prefzoo.training import optimizers
from prefzoo.training.memory_model import TrainingPlan, footprint
from prefzoo.training.optimizers import MuonWithAdamW, check_optimizer, make_optimizer

LORA = {"rank": 2, "alpha": 4.0, "targets": ["q_proj", "v_proj"], "dropout": 0.0}


def test_muon_updates_the_matrices_inside_and_adamw_the_rest(tiny_model: Any) -> None:
    parameters = list(tiny_model.parameters())
    optimizer = make_optimizer(tiny_model, parameters, Train(optimizer="muon", learning_rate=1e-2, weight_decay=0.1))
    assert (
        isinstance(optimizer, MuonWithAdamW)
        and optimizer.param_groups[0]["lr"] == optimizer.param_groups[1]["lr"] == 1e-2
    )
    expected = copy.deepcopy(tiny_model)
    inside = {n for n, p in tiny_model.named_parameters() if p.ndim == 2 and n.startswith("model.layers")}
    theirs = dict(expected.named_parameters())
    parts = [
        torch.optim.Muon([theirs[n] for n in theirs if n in inside], lr=1e-2, weight_decay=0.1,
                         adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([theirs[n] for n in theirs if n not in inside], lr=1e-2, weight_decay=0.1),
    ]  # fmt: skip
    optimizer.load_state_dict(optimizer.state_dict())  # as Accelerate does
    for group in (*optimizer.param_groups, *(g for part in parts for g in part.param_groups)):
        group["lr"] = 2e-2
    for seed in range(2):
        torch.manual_seed(seed)
        for p, q in zip(parameters, expected.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        optimizer.step()
        for part in parts:
            part.step()
    for name, p in tiny_model.named_parameters():
        torch.testing.assert_close(p, theirs[name], msg=name)
        assert ("momentum_buffer" in optimizer.state[p]) == (name in inside), name


@pytest.mark.parametrize("name", first_fast(["adafactor", "muon"]))
@pytest.mark.parametrize("lora", first_fast([None, LORA]), ids=["whole", "lora"])
def test_a_killed_training_goes_on_bit_for_bit(
    name: str, lora: dict[str, Any] | None, tiny_model: Any, tmp_path: Path
) -> None:
    this = job(tiny_model, steps=4, optimizer=name, lora=lora)
    whole = resumable(tiny_model, this, tmp_path / "whole", every=1e9)
    resumable(tiny_model, this, tmp_path / "parts", until=2, stop=kill)
    last = resumable(tiny_model, this, tmp_path / "parts")
    assert last["said"] == ["resuming after step 1 of 4"]
    same(whole, last)


class EightBit(torch.optim.Optimizer):
    """A stand-in for bitsandbytes' AdamW: its state is a plain integer, arrays of bytes, and a table that all share."""

    def __init__(self, parameters: Any, lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})
        self.levels = torch.linspace(-1, 1, 256)

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["qmap1"] = state.get("qmap1", self.levels)
                count = state["step"] = state.get("step", 0) + 1
                assert type(count) is int
                sign = state["state1"] = (p.grad > 0).to(torch.uint8) + (state["state1"] if count > 1 else 0)
                p.data.add_(sign.float() / count, alpha=-group["lr"])


def fake_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("bitsandbytes")
    module.__spec__ = ModuleSpec("bitsandbytes", None)
    module.optim = SimpleNamespace(AdamW8bit=EightBit, PagedAdamW8bit=EightBit)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", module)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_eight_bits_come_from_bitsandbytes_and_are_resumed(
    name: str, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_bitsandbytes(monkeypatch)
    this = job(tiny_model, steps=4, optimizer=name)
    whole = resumable(tiny_model, this, tmp_path / "whole", every=1e9)
    resumable(tiny_model, this, tmp_path / "parts", until=3, stop=kill)
    same(whole, resumable(tiny_model, this, tmp_path / "parts"))


@pytest.mark.slow
def test_eight_bits_on_a_cpu_train_as_adamw_does_and_resume(tiny_model: Any, tmp_path: Path) -> None:
    """With bitsandbytes itself, where it is installed."""
    pytest.importorskip("bitsandbytes", "0.50")
    this = job(tiny_model, steps=4, optimizer="adamw_8bit")
    whole = resumable(tiny_model, this, tmp_path / "whole", every=1e9)
    resumable(tiny_model, this, tmp_path / "parts", until=3, stop=kill)
    same(whole, resumable(tiny_model, this, tmp_path / "parts"))
    losses = [
        [row["loss"] for row in run(tiny_model, job(tiny_model, optimizer=name), tmp_path)]
        for name in ("adamw_8bit", "adamw")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3) and losses[0] != losses[1]


@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_each_goes_down(name: str, tiny_model: Any, tmp_path: Path) -> None:
    rows = run(tiny_model, job(tiny_model, optimizer=name, steps=6, learning_rate=1e-3, lora=None), tmp_path)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.01


@pytest.mark.parametrize(
    ("name", "version", "gpu", "needs"),
    [
        ("adamw_8bit", None, False, "bitsandbytes 0.50 or later"),
        ("adamw_8bit", "0.49.2", False, "bitsandbytes 0.50 or later"),
        ("adamw_8bit", "0.50.2", False, ""),
        ("adamw_8bit", None, True, "bitsandbytes (pip install 'prefzoo[bitsandbytes]')"),
        ("adamw_8bit", "0.49.2", True, ""),
        ("paged_adamw_8bit", None, False, "bitsandbytes (pip install 'prefzoo[bitsandbytes]') and an NVIDIA GPU"),
        ("paged_adamw_8bit", "0.50.2", False, "an NVIDIA GPU"),
        ("paged_adamw_8bit", "0.50.2", True, ""),
    ],
)
def test_eight_bits_are_refused_in_one_line_where_they_cannot_be_had(
    name: str, version: str | None, gpu: bool, needs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(optimizers, "version_of", lambda package: version)
    train = Train.model_validate({"optimizer": name})
    if not needs:
        check_optimizer("variants.dpo.train", train)
        return
    with pytest.raises(UserError) as caught:
        check_optimizer("variants.dpo.train", train)
    (line,) = caught.value.lines
    assert line.startswith(f"variants.dpo.train.optimizer: {name} needs {needs}")
    assert line.endswith("not found here; leave it out for adamw, or use adafactor")


def test_whole_weights_are_asked_for_where_a_launch_shards_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    check_optimizer("train", Train())
    with pytest.raises(UserError, match="train.optimizer: muon needs whole weights in every process, and FSDP shards"):
        check_optimizer("train", Train(optimizer="muon"))


def test_the_memory_of_the_moments() -> None:
    plan = TrainingPlan(100, 50, 10.0)
    moments = {
        name: footprint(SHAPE, replace(plan, optimizer=name)).moments / SHAPE.parameters
        for name in ("adamw", "adamw_8bit", "muon", "adafactor")
    }
    assert moments["adamw"] == 8 and moments["adamw_8bit"] == 2
    assert 4 < moments["muon"] < 8 and moments["adafactor"] < 0.1
