"""Modifiers: worked by hand, alone and composed, refused where they do not fit, and in recipes, grids and plug-ins."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch
from test_losses_golden import ONE, TWO, s, sp
from test_losses_laws import Held
from zoo_inputs import World, named, random_world

import prefzoo
from prefzoo import losses
from prefzoo.cli.losses import show_losses
from prefzoo.errors import UserError
from prefzoo.experiment.cards import About, card
from prefzoo.experiment.search import expand
from prefzoo.losses import _modifier_registry as registry
from prefzoo.recipe import load
from prefzoo.runtime import plugins
from prefzoo.runtime.run_folders import RunResult
from prefzoo.types import TokenAnswers, TokenLogProbs, VocabLogProbs

HEAD = "name: changed\nmodel: some/model\ndata: {train: pairs.jsonl}\nvariants:\n"
FITTING = [one.name for one in losses.all_losses() if not one.unpaired and not one.mean_only]
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(variants: str) -> Path:
        (tmp_path / "r.yaml").write_text(HEAD + variants)
        return tmp_path / "r.yaml"

    return written


@pytest.fixture(autouse=True)
def _restore_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    registry._load_entry_points()  # before the copy, or the next test would have none of them
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(registry._PLUGINS, "loaded", {})


def value(name: str, world: World, *knobs: dict[str, Any], **own: Any) -> list[float]:
    loss = named(name)
    entries = [{one.name: knob} for one, knob in zip(loss.modifiers, knobs, strict=True)]
    return world.each(loss, loss.Params.model_validate({**own, "modifiers": entries})).tolist()


def test_worked_by_hand() -> None:
    """First pair: p_w - p_l = 10, with 0.1 a loss of -log sigma(1); second: -6, -log sigma(-0.6)."""
    dpo = sp(-1), sp(0.6)
    # e^-loss is sigma: the mean of sigma(1) and sigma(-0.6), to the power of 1 / beta
    assert value("dpo with dr", TWO, {"beta": 1.0}) == pytest.approx([-log((s(1) + s(-0.6)) / 2)] * 2)
    half = -0.5 * log((s(1) ** 2 + s(-0.6) ** 2) / 2)
    assert value("dpo with dr", TWO, {"beta": 0.5}) == pytest.approx([half] * 2)
    # half of the difference of the losses, up or down, over tau
    up = exp((dpo[1] - dpo[0]) / 2 / 0.5)
    assert value("dpo with kl", TWO, {"tau": 0.5}) == pytest.approx([dpo[0] / up, dpo[1] * up])
    # log-ratios of tokens: 1, 1, 0, 1, -1, of which the 1s become 0.5: 0.5; rejected -2, -1, -2, -3, all -1: -4
    assert value("dpo with humanline", ONE, {"low": -1.0, "high": 0.5}) == pytest.approx([sp(-0.1 * 4.5)])
    # simpo sees the clamped log-probs: (-12 + 0.5) / 5 and (-8 - 4) / 4
    simpo = value("simpo with humanline", ONE, {"low": -1.0, "high": 0.5}, beta=2.0, gamma=1.0)
    assert simpo == pytest.approx([sp(1 - 2 * (-2.3 + 3))])
    clamped = value("dpo with humanline", TWO, {"low": -1.0, "high": 0.5})
    both = value("dpo with humanline and dr", TWO, {"low": -1.0, "high": 0.5}, {"beta": 1.0})
    assert both == pytest.approx([-log(sum(exp(-one) for one in clamped) / 2)] * 2)


def test_a_sum_is_changed_as_a_whole() -> None:
    world = random_world(0)
    parts = world.each(losses.get("dpo + 0.2*sft"))
    torch.testing.assert_close(
        world.each(named("dpo + 0.2*sft with dr")), -torch.exp(-parts).mean().log().expand(len(parts))
    )
    seen = world.with_tokens(*(clamp(world, side) for side in ("chosen_tokens", "rejected_tokens")))
    torch.testing.assert_close(
        world.each(named("dpo + 0.2*sft with humanline")), seen.each(losses.get("dpo + 0.2*sft"))
    )


def clamp(world: World, side: str) -> torch.Tensor:
    base = getattr(world.reference, side)
    return base + (getattr(world.policy, side) - base).clamp(-1.0, 1.5)


@pytest.mark.parametrize("name", [one.name for one in losses.all_losses()])
def test_humanline_is_the_loss_of_clamped_log_probs(name: str) -> None:
    """Of pairs, of single answers, of losses that read tokens, and of those without a reference."""
    world, clamped = random_world(1), named(f"{name} with humanline")
    seen = world.with_tokens(*(clamp(world, side) for side in ("chosen_tokens", "rejected_tokens")))
    assert not torch.equal(seen.policy.chosen, world.policy.chosen)
    params = clamped.Params()
    reference: Any = world.reference
    policy: Any = world.policy
    if clamped.unpaired:
        policy, reference = TokenAnswers.from_pairs(policy), TokenAnswers.from_pairs(reference)
    extra = {"scores": world.scores, "kl": world.kl, "mismatched": world.mismatched}
    torch.testing.assert_close(clamped.each(policy, reference, params, **extra), seen.each(losses.get(name)))


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("modifier", ["dr", "kl"])
def test_a_modifier_of_values_changes_those_of_any_loss_of_pairs(modifier: str, name: str) -> None:
    world, one = random_world(2), named(f"{name} with {modifier}")
    plain = world.each(losses.get(name))
    expected = {
        "dr": (-(torch.logsumexp(-plain, 0) - log(6))).expand(6),
        "kl": torch.exp((plain - plain.mean()).clamp(max=log(10))) * plain,
    }
    torch.testing.assert_close(world.each(one), expected[modifier])
    assert one.couples and one.state_type == losses.get(name).state_type


@pytest.mark.parametrize("name", ["dpo with dr", "dpo with kl", "dpo with humanline", "simpo with humanline and dr"])
def test_gradients_match_finite_differences(name: str) -> None:
    world, held, one = random_world(4, pairs=3), Held(), named(name)
    p = world.policy
    leaves = tuple(t.clone().requires_grad_() for t in (p.chosen_tokens, p.rejected_tokens))
    weights = torch.tensor([1.0, -0.7, 0.4], dtype=torch.float64)

    def total(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        moved = world.with_tokens(chosen * (p.chosen_tokens != 0), rejected * (p.rejected_tokens != 0))
        reference = world.reference
        return held.run(lambda: one.each(moved.policy, reference, one.Params())) @ weights

    assert torch.autograd.gradcheck(total, leaves, fast_mode=True)


def test_a_token_beyond_the_range_has_no_gradient() -> None:
    tokens = torch.tensor([[-1.0, -1.0, -1.0]], requires_grad=True)
    base = torch.tensor([[-1.5, -3.0, 0.0]])  # 0.5 within, 2 above, -1 at the edge's other side
    lengths = torch.tensor([3])
    policy = TokenLogProbs(tokens.sum(1), torch.tensor([-9.0]), lengths, lengths, tokens, torch.full((1, 3), -3.0))
    reference = TokenLogProbs(base.sum(1), torch.tensor([-9.0]), lengths, lengths, base, torch.full((1, 3), -3.0))
    loss = named("dpo with humanline")
    loss.each(policy, reference, loss.Params()).sum().backward()
    assert tokens.grad is not None and tokens.grad[0, 0] < 0 and tokens.grad[0, 1] == 0


def test_the_start_is_that_of_the_loss() -> None:
    for name in ("dpo with dr", "ipo with kl", "dpo with humanline", "dpo + 0.5*hinge with humanline and dr"):
        loss = named(name)
        assert loss.at_reference is not None
        start = loss.at_reference(loss.Params())
        assert random_world(3).at_reference().each(loss).tolist() == pytest.approx([start] * 6)
    assert named("rpo with dr").at_reference is None


def test_wrong_pairs_count_less_with_dr_and_more_with_kl() -> None:
    """One pair of six is far on the wrong side: dr stays near the others' value, kl weighs that pair ten times."""
    wrong = random_world(0).at_reference().moved(torch.tensor([0.0, 0, 0, -400, 0, 0]), torch.zeros(6))
    right = log(2) - log(5 / 6)  # the pair drops out of the sum, not out of the number of pairs
    assert value("dpo with dr", wrong, {"beta": 1.0}) == pytest.approx([right] * 6, rel=1e-6)
    values = value("dpo with kl", wrong, {"tau": 1.0})
    assert values.pop(3) == pytest.approx(400.0) and max(values) < 0.01  # 10 * 40
    mean = wrong.each(losses.get("dpo")).mean().item()
    assert value("dpo with dr", wrong, {"beta": 1e6})[0] == pytest.approx(mean, rel=1e-3)


def test_what_is_needed_is_the_union() -> None:
    assert named("simpo with humanline").needs == {"policy": TokenLogProbs, "reference": TokenLogProbs}
    assert named("wpo with humanline").needs["policy"] is VocabLogProbs
    kto = named("kto with humanline")
    assert kto.unpaired and kto.needs["policy"] is TokenAnswers and kto.needs_mismatched
    assert not named("simpo with dr").needs_reference


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        (
            "{loss: kto, modifiers: [dr]}",
            "modifiers: dr weighs pairs, and kto has single answers",
        ),
        ("{loss: aot, modifiers: [kl]}", "modifiers: kl changes the values of single rows, and aot has none: value i"),
        ("{loss: dpo + aot, modifiers: [kl]}", "and dpo + aot has none: aot: value i belongs to rank i"),
        ("{loss: dpo, modifiers: [dr, kl]}", "modifiers: kl and dr exclude each other; keep one, or make two variants"),
        ("{loss: dpo, modifiers: [dr, dr: {}]}", "modifiers: dr occurs twice; keep one"),
        ("{loss: dpo, modifiers: [dr, humanline]}", "dr the values after it; write humanline first"),
        ("{loss: dpo, modifiers: [humaline]}", "modifiers: no such modifier: 'humaline'; did you mean 'humanline'?"),
        ("{loss: dpo, modifiers: [ipo]}", "modifiers: no such modifier: 'ipo'; there are dr, humanline, kl"),
        ("{loss: dpo, modifiers: dr}", "modifiers: must be a list, in the order in which they act; like [{dr: {...}}]"),
        ("{loss: dpo, modifiers: {humanline: {}, dr: {}}}", "like [{humanline: {...}}, {dr: {...}}]"),
        ("{loss: dpo, modifiers: [{humanline: {}, dr: {}}]}", "modifiers.0: must be one modifier with its knobs"),
        ("{loss: dpo, modifiers: [[dr]]}", "modifiers.0: must be one modifier with its knobs (is a list)"),
        ("{loss: dpo, modifiers: [{dr: 1}]}", "modifiers.0.dr: must be a mapping of knobs (is 1); like `{beta: 1}`"),
        ("{loss: dpo, modifiers: [{dr: {bta: 1}}]}", "0.dr.bta: no such parameter of dr, which has beta; did you mean"),
        ("{loss: dpo, modifiers: [{dr: {beta: 0}}]}", "modifiers.0.dr.beta: must be greater than 0 (is 0)"),
        ("{loss: dpo, modifiers: [{dr: {beta: [1, -1]}}]}", "0.dr.beta: must be greater than 0 (is -1)"),
        ("{loss: dpo, modifiers: [{'my.py:mine': {}}]}", "modifiers: modifier 'my.py:mine': no such file:"),
        (
            "{loss: dpo, modifier: [dr]}",
            "no such parameter of dpo, which has beta; did you mean 'modifiers'?",
        ),
        ("{loss: dr}", "no such loss: 'dr'; it is a modifier: name a loss, and write modifiers: [dr]"),
        ("{loss: dr_dpo}", "it is dpo with a modifier: loss: dpo, modifiers: [{dr: {beta: 1}}]"),
    ],
)
def test_one_line_says_what_is_wrong(variant: str, says: str, write: Write) -> None:
    with pytest.raises(UserError) as caught:
        load.load(write(f"  x: {variant}\n"))
    (line,) = caught.value.lines
    assert says in line and "r.yaml:5: variants.x" in line


def test_a_recipe_reads_its_own_dump(write: Write, tmp_path: Path) -> None:
    recipe = load.load(
        write("  x: {loss: dpo, modifiers: [{humanline: {low: -2}}, {dr: {beta: 1}}]}\n  y: {loss: dpo}\n")
    )
    variant = recipe.variants["x"]
    assert variant.loss_obj.name == "dpo with humanline and dr"
    entries = [{"humanline": {"low": -2.0, "high": 1.5}}, {"dr": {"beta": 1.0}}]
    assert json.loads(json.dumps(variant.params.model_dump())) == {"beta": 0.1, "modifiers": entries}
    assert recipe.variants["y"].params.model_dump() == {"beta": 0.1}
    (tmp_path / "again.yaml").write_text(load.dump(recipe))
    assert load.load(tmp_path / "again.yaml").variants == recipe.variants


def test_nothing_listed_is_the_loss_itself(write: Write) -> None:
    recipe = load.load(write("  x: {loss: dpo, modifiers: []}\n  y: {loss: dpo, modifiers: }\n"))
    assert all(one.params == losses.get("dpo").Params() for one in recipe.variants.values())


def test_the_order_is_a_part_of_the_identity(write: Write, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("def one(values): return 2 * values\ndef two(values): return values + 1\n")
    recipe = load.load(
        write(
            "  x: {loss: dpo, modifiers: [my.py:one, my.py:two]}\n  y: {loss: dpo, modifiers: [my.py:two, my.py:one]}\n"
        )
    )
    one, two = recipe.variants.values()
    assert one.params.model_dump() != two.params.model_dump()
    plain, world = random_world(5).each(losses.get("dpo")), random_world(5)
    torch.testing.assert_close(world.each(one.loss_obj, one.params), 2 * plain + 1)
    torch.testing.assert_close(world.each(two.loss_obj, two.params), 2 * (plain + 1))


def test_knobs_of_modifiers_are_tuned_like_any_other(write: Write) -> None:
    path = write("  x: {loss: dpo, beta: [0.1, 0.2], modifiers: [humanline, {dr: {beta: [1, 2]}}]}\n")
    recipe = load.load(path)
    trials = expand(recipe)
    settings = {(t.variant.params.beta, t.variant.params.modifiers[1]["dr"].beta) for t in trials}  # type: ignore[attr-defined]
    assert settings == {(0.1, 1.0), (0.1, 2.0), (0.2, 1.0), (0.2, 2.0)}
    again = path.with_name("again.yaml")
    again.write_text(load.dump(recipe))
    assert load.load(again).variants == recipe.variants


def test_published_grids_reach_modifiers(write: Write) -> None:
    recipe = load.load(write("  x: {loss: dpo, sweep: paper, modifiers: [kl]}\n"))
    axes = {".".join(axis.path): axis for axis in recipe.variants["x"].axes}
    assert axes["modifiers.kl.tau"].values == (0.05, 1.0) and "2502.01930" in axes["modifiers.kl.tau"].source
    assert len(axes["beta"].values) > 1


PLUGIN = '''
from prefzoo.losses import NonNegative, modifier
from prefzoo.types import TokenLogProbs

@modifier(paper="me", grid={"floor": (-5.0,)})
def floored(policy: TokenLogProbs, reference: TokenLogProbs, *, floor=-5.0):
    """No token counts for less than the floor."""
    return policy.map_tokens(lambda own, base: own.clamp(min=floor), reference)

def doubled(values, scores, times=2):
    return times * values * (scores.gap > 0)

def summed(values):
    return values.sum()

def nothing(policy, scale: NonNegative = 1.0):
    return None
'''


def test_a_plug_in_is_named_like_one_of_losses(write: Write, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(PLUGIN)
    recipe = load.load(
        write("  x:\n    loss: dpo\n    modifiers:\n    - my.py:floored\n    - my.py:doubled: {times: [2, 3]}\n")
    )
    variant, world = recipe.variants["x"], random_world(6)
    floored = world.with_tokens(world.policy.chosen_tokens.clamp(min=-5), world.policy.rejected_tokens.clamp(min=-5))
    torch.testing.assert_close(world.each(variant.loss_obj, variant.params), 2 * floored.each(losses.get("dpo")))
    assert variant.axes[0].path == ("modifiers", "doubled", "times") and variant.loss_obj.needs_scores
    (tmp_path / "again.yaml").write_text(load.dump(recipe))
    assert load.load(tmp_path / "again.yaml").variants == recipe.variants


def offer(attribute: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer an attribute of a module as an installed package does."""
    (folder / f"zoo_modifier_{attribute}.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    point = EntryPoint("offered", f"zoo_modifier_{attribute}:{attribute}", "prefzoo.modifiers")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "prefzoo.modifiers" else [])
    registry._load_entry_points.cache_clear()


@pytest.mark.parametrize("attribute", ["floored", "doubled"])  # one is decorated, one a plain function
def test_an_entry_point(
    attribute: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(attribute, PLUGIN, tmp_path, monkeypatch)
    assert attribute in [one.name for one in losses.all_modifiers()]
    assert "offered" not in [one.name for one in losses.all_modifiers()]  # names come from functions
    variant = load.load(write(f"  x: {{loss: dpo, modifiers: [{attribute}]}}\n")).variants["x"]
    assert variant.loss_obj.name == f"dpo with {attribute}"
    show_losses(attribute)
    assert capsys.readouterr().out.startswith(attribute)


def test_an_entry_point_that_takes_a_name_is_reported_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offer("dr", "def dr(values):\n    return values\n", tmp_path, monkeypatch)
    assert "Wu 2024" in losses.get_modifier("dr").paper
    err = capsys.readouterr().err
    assert "entry point offered = zoo_modifier_dr:dr fails" in err and "rename one of the functions" in err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("summed", "modifier summed returned shape (); it must return values of shape (6,)"),
        ("nothing", "modifier nothing returned NoneType; it must return VocabLogProbs"),
    ],
)
def test_a_plug_in_that_returns_something_else(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(PLUGIN)
    loss = losses.modify(losses.get("dpo"), [f"my.py:{name}"], tmp_path)
    with pytest.raises(ValueError, match=says.replace("(", r"\(").replace(")", r"\)")):
        random_world(7).each(loss)


def test_one_that_reads_pairs_is_refused_for_single_answers(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(PLUGIN)
    with pytest.raises(UserError, match="floored reads the log-probs of pairs, and kto has single answers"):
        losses.modify(losses.get("kto"), ["my.py:floored"], tmp_path)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def bad(scores): ...", "a modifier takes policy and returns log-probs, or takes values and returns values"),
        ("def bad(values, state): ...", "state is not an input of a modifier; a knob needs a default"),
        ("def bad(values, *, knob=None): ...", "knob 'knob' needs a type"),
        ("def bad(policy: int): ...", "policy must be annotated LogProbs or TokenLogProbs"),
        ("def bad(values, *more): ...", "more is *args, **kwargs or positional-only"),
        ("bad = 3", "has no function, but something else, named 'bad'"),
    ],
)
def test_a_wrong_signature_is_named(source: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(UserError) as caught:
        losses.get_modifier("bad.py:bad", tmp_path)
    assert "modifier 'bad.py:bad'" in caught.value.lines[0] and says in caught.value.lines[0]
    assert "A modifier is a function" in caught.value.hint


def test_results_and_cards_name_the_modifiers(write: Write) -> None:
    variant = load.load(write("  x: {loss: dpo, modifiers: [humanline, {dr: {beta: 2}}]}\n")).variants["x"]
    params = json.loads(json.dumps(variant.params.model_dump()))
    result = RunResult("x", variant.loss, params, {}, 0, "", {}, {}, {})
    assert result.loss_shown == variant.loss_obj.name == "dpo with humanline and dr"
    assert replace(result, params={"beta": 0.1}).loss_shown == "dpo"
    recipe = {"name": "r", "model": "m", "data": {"train": "d", "max_length": 8}}
    text = card(About(result, variant.loss_obj, recipe, Path()), adapter=False)
    assert "Modified by humanline" in text and "| modifiers.dr.beta | 2.0 |" in text and "- arxiv:2509.24207" in text


def test_from_python() -> None:
    world = random_world(8)
    loss = prefzoo.loss("dpo", beta=0.3, modifiers=["humanline", {"dr": {"beta": 2.0}}])
    expected = value("dpo with humanline and dr", world, {}, {"beta": 2.0}, beta=0.3)
    assert loss(world.policy, world.reference).tolist() == pytest.approx(expected)
    with pytest.raises(UserError, match="loss dpo: modifiers: no such modifier: 'humanlin'; did you mean 'humanline'"):
        prefzoo.loss("dpo", modifiers=["humanlin"])


def test_what_is_known_of_each_is_said() -> None:
    for one in losses.all_modifiers():
        lines = one.doc.splitlines()
        assert lines[0].endswith(".") and lines[1] == "" and one.doc.count("$$") == 2 and "arXiv" in one.paper
        assert one.traps and not [trap for trap in one.traps if trap.endswith(".")] and one.grid
        assert {losses.get_modifier(other).name for other in one.excludes} == set(one.excludes)
