"""Sums of losses: values, needs, states, recipes, and what is said to a text that is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from zoo_inputs import random_world

from prefzoo import losses
from prefzoo.errors import UserError
from prefzoo.recipe import load
from prefzoo.types import LogProbs, Mismatched, Scores, TokenKL, VocabLogProbs

RECIPE = """
name: sums
model: some/model
data: {train: pairs.jsonl}
variants:
  mixed: {loss: dpo + 0.2*sft, dpo: {beta: 0.3}}
"""


def test_the_value_is_the_weighted_sum() -> None:
    world, loss = random_world(0), losses.get("0.8*dpo + 0.2*bco_pair+ sft")
    dpo, bco, sft = (losses.get(name) for name in ("dpo", "bco_pair", "sft"))
    params = loss.Params.model_validate({"dpo": {"beta": 0.3}})
    expected = 0.8 * world.each(dpo, dpo.Params(beta=0.3)) + 0.2 * world.each(bco) + world.each(sft)
    torch.testing.assert_close(world.each(loss, params), expected)
    assert loss.name == "0.8*dpo + 0.2*bco_pair + sft" and losses.get(loss.name).name == loss.name


def test_mpo_and_rpo_are_such_sums() -> None:
    world = random_world(1)
    for name, text, knobs in (
        ("mpo", "0.8*dpo + 0.2*bco_pair + sft", {"bco_pair": {"beta": 0.1}}),
        ("rpo", "dpo + sft", {}),
        ("cpo", "dpo_ref_free + sft", {}),
        ("cpo_simpo", "simpo + sft", {}),
        ("orpo", "sft + 1e-1*orpo_align", {"orpo_align": {"beta": 1.0}}),
    ):
        loss = losses.get(text)
        torch.testing.assert_close(world.each(losses.get(name)), world.each(loss, loss.Params.model_validate(knobs)))


def test_needs_are_the_union_in_the_richest_type() -> None:
    loss = losses.get("wpo + unlikelihood + tdpo1 + odpo")
    assert loss.needs == {"policy": VocabLogProbs, "reference": LogProbs, "scores": Scores, "kl": TokenKL}
    assert loss.needs_reference and loss.needs_scores and loss.needs_kl and not loss.unpaired
    assert not losses.get("simpo + sft").needs_reference
    unpaired = losses.get("kto + 0.5*bco")
    assert unpaired.unpaired and unpaired.needs["mismatched"] is Mismatched
    assert random_world(0).each(unpaired).shape == (12,)
    assert "z0" in unpaired.couples and "gpo_exp" in losses.get("dpo + gpo_exp").provisional


def test_a_state_per_term_goes_from_step_to_step() -> None:
    world, loss = random_world(2), losses.get("dpo + bco_pair_shift")
    assert loss.state_type is tuple and loss.start() is not None and losses.get("dpo + sft").start() is None
    _, state = world.each_with_state(loss)
    values, _ = world.each_with_state(loss, state=state)
    alone = losses.get("bco_pair_shift")
    _, once = world.each_with_state(alone)
    expected = world.each(losses.get("dpo")) + world.each(alone, state=once)
    assert state[0] is None
    torch.testing.assert_close(values, expected)


def test_the_start_is_the_sum_of_the_starts_where_all_are_declared() -> None:
    world, loss = random_world(3).at_reference(), losses.get("dpo + 0.5*hinge")
    assert loss.at_reference is not None
    assert world.each(loss).tolist() == pytest.approx([loss.at_reference(loss.Params())] * 6)
    assert losses.get("dpo + sft").at_reference is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dpo + ", "loss 'dpo + ': a term is missing next to a +; a sum is written like dpo + 0.2*sft"),
        ("+ dpo", "a term is missing next to a +"),
        ("-1*sft", "the weight of sft must be greater than 0 (is -1)"),
        ("dpo + 0*sft", "the weight of sft must be greater than 0 (is 0)"),
        ("dpo + inf*sft", "the weight of sft must be greater than 0 (is inf)"),
        ("dpo * sft", "'dpo' is not a number to weight sft with"),
        ("0.2*", "cannot read '0.2*'"),
        ("dpo - 0.2*sft", "'dpo - 0.2' is not a number to weight"),
        ("dpo + sft hinge", "cannot read 'sft hinge'"),
        ("dpo + sftt", "no such loss: 'sftt'; did you mean 'sft'?"),
        ("dpo + 0.5*dpo", "dpo occurs twice; write it once, with the sum of the weights"),
        ("kto + dpo", "kto takes single answers and dpo takes pairs"),
    ],
)
def test_a_text_that_is_no_sum(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        losses.get(text)
    assert says in caught.value.lines[0] and len(caught.value.lines) == 1


def test_a_plugin_may_be_a_term(tmp_path: Path) -> None:
    source = "from prefzoo.losses import loss\n@loss(paper='x')\ndef summed_plugin(policy):\n    return policy.margin\n"
    (tmp_path / "plug.py").write_text(source)
    loss = losses.get("sft + 2*plug.py:summed_plugin", tmp_path)
    world = random_world(4)
    torch.testing.assert_close(world.each(loss), world.each(losses.get("sft")) + 2 * world.policy.margin)


def test_a_recipe_takes_a_sum_and_its_knobs(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    variant = load.load(path).variants["mixed"]
    assert variant.params.model_dump() == {"dpo": {"beta": 0.3}, "sft": {}}
    again = tmp_path / "again.yaml"
    again.write_text(load.dump(load.load(path)))
    assert load.load(again).variants == load.load(path).variants


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("dpo: {bta: 1.0}", "variants.mixed.dpo.bta: no such parameter"),
        ("dpo: {beta: -1.0}", "variants.mixed.dpo.beta: must be greater than 0 (is -1.0)"),
        ("beta: 0.1", "variants.mixed.beta: no such parameter of dpo + 0.2*sft, which has dpo, sft"),
    ],
)
def test_a_recipe_that_is_wrong_about_a_term(wrong: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.replace("dpo: {beta: 0.3}", wrong))
    with pytest.raises(UserError) as caught:
        load.load(path)
    assert says in caught.value.lines[0]
