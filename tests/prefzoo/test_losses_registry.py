"""The registry: declarations, plug-ins, and what it says to a wrong name."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from prefzoo import losses
from prefzoo.errors import UserError
from prefzoo.losses import _registry
from prefzoo.losses._bounds import Positive
from prefzoo.types import LogProbs

PLUGIN = """
from prefzoo.losses import Positive, loss

@loss(paper="mine")
def mine(policy, *, slope: Positive = 1.0):
    return -slope * policy.margin
"""


@pytest.fixture(autouse=True)
def _restore_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "_REGISTRY", dict(_registry._REGISTRY))
    monkeypatch.setattr(_registry, "_PLUGINS", {})


def test_names_are_pinned() -> None:
    assert losses.names() == [
        "cdpo", "cpo", "dpo", "hinge", "ipo", "ipo_mean", "orpo", "robust", "sft", "simpo",
    ]  # fmt: skip


def test_a_plugin_file_is_found_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "my_losses.py").write_text(PLUGIN)
    found = losses.get("my_losses.py:mine", tmp_path)
    policy = LogProbs(torch.tensor([-1.0]), torch.tensor([-3.0]), torch.tensor([1]), torch.tensor([1]))
    assert not found.needs_reference
    assert found.each(policy, None, found.Params(slope=2.0)).item() == -4.0  # -2 * (-1 + 3)


def test_a_plugin_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo_plugin_module.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    assert losses.get("zoo_plugin_module:mine").name == "mine"


def test_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo_entry_module.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("offered", "zoo_entry_module:mine", "prefzoo.losses")
    monkeypatch.setattr(_registry, "entry_points", lambda group: [point] if group == "prefzoo.losses" else [])
    monkeypatch.setattr(_registry, "_entry_points_loaded", False)
    assert "offered" in losses.names()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dpoo", "no such loss: 'dpoo'; did you mean 'dpo'?"),
        ("zzz", "`prefzoo losses` lists all"),
        ("absent.py:mine", "no such file"),
        ("plug.py:nine", "has no loss 'nine'; did you mean 'mine'?"),
        ("broken.py:mine", "fails on import: ZeroDivisionError"),
        ("no_such_package.x:mine", "cannot import no_such_package.x"),
    ],
)
def test_wrong_names_are_told_apart(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text(PLUGIN)
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(UserError) as caught:
        losses.get(name, tmp_path)
    assert says in caught.value.lines[0] and len(caught.value.lines) == 1


def test_knobs_become_a_strict_schema() -> None:
    params = losses.get("cdpo").Params
    assert set(params.model_fields) == {"beta", "flip_rate"}
    for wrong in ({"betta": 1.0}, {"beta": 0.0}, {"beta": -1.0}, {"flip_rate": 0.5}, {"beta": float("nan")}):
        with pytest.raises(ValidationError):
            params(**wrong)


def test_a_signature_that_is_no_loss_is_refused() -> None:
    with pytest.raises(TypeError, match="keyword-only"):

        @losses.loss(paper="none")
        def swapped(reference: LogProbs, policy: LogProbs) -> torch.Tensor:
            return policy.margin

    with pytest.raises(TypeError, match="needs a type and a default"):

        @losses.loss(paper="none")
        def untyped(policy: LogProbs, *, beta: Positive) -> torch.Tensor:
            return policy.margin


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ValueError, match="is taken by prefzoo.losses.dpo"):

        @losses.loss(paper="none")
        def dpo(policy: LogProbs) -> torch.Tensor:
            return policy.margin


def test_a_mean_is_refused_and_a_missing_reference_named() -> None:
    @losses.loss(paper="none")
    def averaged(policy: LogProbs) -> torch.Tensor:
        return policy.margin.mean()

    policy = LogProbs(torch.zeros(3), torch.zeros(3), torch.ones(3), torch.ones(3))
    with pytest.raises(ValueError, match="one value per pair"):
        averaged.each(policy, None, averaged.Params())
    found = losses.get("dpo")
    with pytest.raises(ValueError, match="compares with a reference"):
        found.each(policy, None, found.Params())
