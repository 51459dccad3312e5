"""The registry: declarations, plug-ins, and what it says to a wrong name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import pytest
import torch
from pydantic import ValidationError
from test_losses_golden import Row
from zoo_inputs import random_world

from prefzoo import losses
from prefzoo.catalogue.pages import catalogue
from prefzoo.errors import UserError
from prefzoo.losses import TEMPLATE, _registry
from prefzoo.losses._bounds import Positive
from prefzoo.losses.batch import RunningMean
from prefzoo.runtime import plugins
from prefzoo.types import Answers, LogProbs, Mismatched, Scores, TokenLogProbs, VocabLogProbs

PLUGIN = """
from prefzoo.losses import Positive, loss

@loss(paper="mine")
def mine(policy, *, slope: Positive = 1.0):
    return -slope * policy.margin
"""


PLAIN = """
from __future__ import annotations

number = 3

def bare(policy, weights): ...
def renamed(pi, ref, beta=0.1): ...
def late(policy, scores: Scores): ...
def _private(policy): ...
"""


@pytest.fixture(autouse=True)
def _restore_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "_REGISTRY", dict(_registry._REGISTRY))
    monkeypatch.setattr(_registry._PLUGINS, "loaded", {})


NAMES = """
    alpha_dpo alphapo aot aot_unpaired apo_down apo_zero apo_zero_unpaired asft bco bco_pair bco_pair_shift beta_dpo
    bpo c2_dpo cal_dpo cdpo chi_po confpo cpo cpo_simpo d2_simpo d2po ddro discopop dpo dpo_davidson dpo_norm
    dpo_ref_free dpo_rk dpo_shift dpop exo_pair fdpo_alpha fdpo_forward_kl fdpo_js focal_po gamma_dpo gamma_simpo
    gpo_exp gpo_quadratic gpo_savage h_dpo hinge ipo ipo_mean kto ld_dpo ld_dpo_policy mallows_dpo mallows_ipo mappo
    margin_dpo minor_dpo mpo nca_pair npo odpo orpo orpo_align pro qrpo r_dpo rdro repo robust rpo rpo_bwd_kl
    rpo_fwd_kl rpo_sq rrhf sampo sft simnpo simper simpo slic_hf sppo_hard squared_po tdpo1 tdpo2 uni_dpo unlikelihood
    wpo
"""
PROVISIONAL = {
    "chi_po",
    "squared_po",
    "gpo_exp",
    "gpo_quadratic",
    "gpo_savage",
    "unlikelihood",
    "minor_dpo",
    "c2_dpo",
    "focal_po",
    "h_dpo",
    "dpo_davidson",
    "ddro",
}


def test_names_are_pinned() -> None:
    assert losses.names() == NAMES.split() and len(losses.names()) >= 50
    assert {loss.name for loss in losses.all_losses() if loss.provisional} == PROVISIONAL
    assert {loss.group for loss in losses.all_losses()} == set(losses.GROUPS)


def test_the_fields_of_a_loss_are_pinned() -> None:
    """What is known of a loss, and nothing that steers the loop: a new field is a decision."""
    assert [f.name for f in fields(losses.Loss)] == [
        "fn", "paper", "equation", "at_reference", "group", "grid", "traps", "couples", "mean_only",
        "provisional", "learning_rate", "score_range",
    ]  # fmt: skip


def test_a_signature_says_what_a_loss_needs() -> None:
    kto, wpo, bco = losses.get("kto"), losses.get("wpo"), losses.get("bco")
    assert kto.needs == {"policy": Answers, "reference": Answers, "mismatched": Mismatched}
    assert kto.unpaired and kto.needs_mismatched and kto.start() is None
    assert wpo.needs == {"policy": VocabLogProbs, "reference": LogProbs} and not wpo.unpaired
    assert bco.state_type is RunningMean and bco.start() == RunningMean.start()
    assert losses.get("odpo").needs_scores and losses.get("tdpo1").needs_kl
    assert losses.get("unlikelihood").needs == {"policy": TokenLogProbs}


def test_what_a_loss_lacks_is_named() -> None:
    world = random_world(0)
    for name, lacking in (("odpo", "the data's scores"), ("tdpo2", "the KL of every token")):
        loss = losses.get(name)
        with pytest.raises(ValueError, match=f"loss {name} reads {lacking}, but none was given"):
            loss.each(world.policy, world.reference, loss.Params())
    kto = losses.get("kto")
    with pytest.raises(ValueError, match="loss kto takes policy: Answers, not VocabLogProbs"):
        kto.each(world.policy, world.reference, kto.Params(), mismatched=world.mismatched)
    answers = Answers.from_pairs(world.policy)
    with pytest.raises(ValueError, match="loss kto estimates a KL from mismatched pairs, but none was given"):
        kto.each(answers, answers, kto.Params())


def test_a_plugin_file_is_found_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "my_losses.py").write_text(PLUGIN)
    loss = losses.get("my_losses.py:mine", tmp_path)
    policy = LogProbs(torch.tensor([-1.0]), torch.tensor([-3.0]), torch.tensor([1]), torch.tensor([1]))
    assert not loss.needs_reference
    assert loss.each(policy, None, loss.Params(slope=2.0)).item() == -4.0  # -2 * (-1 + 3)


def four_log_probs() -> tuple[LogProbs, LogProbs]:
    lengths = torch.tensor([2, 4])
    policy = LogProbs(torch.tensor([-1.0, -5.0]), torch.tensor([-3.0, -4.0]), lengths, lengths)
    return policy, LogProbs(torch.tensor([-2.0, -5.0]), torch.tensor([-2.0, -7.0]), lengths, lengths)


FORMS = {
    "the template's": TEMPLATE.split(":\n", 1)[1],
    "knobs by keyword": """
        from torch.nn.functional import logsigmoid
        def mine(policy, reference, *, beta=0.1):
            return -logsigmoid(beta * (policy.margin - reference.margin))
        """,
    "decorated without brackets": """
        from torch.nn.functional import logsigmoid
        from prefzoo.losses import loss
        @loss
        def mine(reference, policy, beta: float = 0.1):
            return -logsigmoid(beta * (policy.margin - reference.margin))
        """,
    "decorated without a paper": """
        from torch.nn.functional import logsigmoid
        from prefzoo.losses import Positive, loss
        @loss(traps=("mind the gap",))
        def mine(policy, reference, *, beta: Positive = 0.1):
            return -logsigmoid(beta * (policy.margin - reference.margin))
        """,
    "TRL's four tensors": """
        from torch.nn.functional import logsigmoid
        def mine(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, reference_rejected_logps, beta=0.1):
            h = (policy_chosen_logps - policy_rejected_logps) - (ref_chosen_logps - reference_rejected_logps)
            return -logsigmoid(beta * h)
        """,
    "four tensors in short": """
        from torch.nn.functional import logsigmoid
        def mine(chosen, rejected, ref_chosen, ref_rejected, beta: float = 0.1):
            return -logsigmoid(beta * ((chosen - rejected) - (ref_chosen - ref_rejected)))
        """,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_loss_of_ones_own_in_any_form_is_dpo(form: str, tmp_path: Path) -> None:
    (tmp_path / "my_losses.py").write_text(dedent(FORMS[form]))
    mine, dpo = losses.get("my_losses.py:mine", tmp_path), losses.get("dpo")
    policy, reference = four_log_probs()
    for params in ({}, {"beta": 0.3}, {"beta": 1}):
        got = mine.each(policy, reference, mine.Params(**params))
        assert got.tolist() == dpo.each(policy, reference, dpo.Params(**params)).tolist()
    assert mine.paper == "" and mine.needs == dpo.needs and set(mine.Params.model_fields) == {"beta"}
    with pytest.raises(ValidationError):
        mine.Params(beta="0.1")
    (entry,) = json.loads(catalogue([cast("losses.Loss", mine)], "json"))
    assert (
        entry["name"] == "mine" and entry["paper"] == "" and "Paper" not in catalogue([cast("losses.Loss", mine)], "md")
    )
    assert losses.paper_grid(mine).knobs == {"beta": (0.02, 0.1, 0.5)}


def test_a_plain_function_may_do_without_a_reference_and_read_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def free(chosen, rejected): return rejected - chosen\n"
        "def scored(policy, scores, k=2, hard=False): return -policy.margin * scores.gap * k\n"
    )
    policy, reference = four_log_probs()
    free, scored = losses.get("own.py:free", tmp_path), losses.get("own.py:scored", tmp_path)
    assert not free.needs_reference and free.each(policy, None, free.Params()).tolist() == [-2.0, 1.0]
    gaps = Scores(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0]))
    assert scored.needs == {"policy": LogProbs, "scores": Scores}
    assert scored.each(policy, reference, scored.Params(), scores=gaps).tolist() == [-8.0, 0.0]
    params = scored.Params(k=0.5, hard=True)
    assert params.model_dump() == {"k": 0.5, "hard": True} and scored.Params().model_dump() == {"k": 2, "hard": False}


def test_a_paper_without_its_name_is_explained() -> None:
    with pytest.raises(TypeError, match=r"name the argument: @loss\(paper='Me 2026'\), or write only @loss"):
        losses.loss("Me 2026")  # type: ignore[call-overload]


def test_a_plugin_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo_plugin_module.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    assert losses.get("zoo_plugin_module:mine").name == "mine"


def test_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo_entry_module.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("offered", "zoo_entry_module:mine", "prefzoo.losses")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "prefzoo.losses" else [])
    _registry._load_entry_points.cache_clear()
    assert "mine" in losses.names() and "offered" not in losses.names()  # names come from functions


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dpoo", "no such loss: 'dpoo'; did you mean 'dpo'?"),
        ("zzz", "`prefzoo losses` lists all"),
        ("absent.py:mine", "no such file"),
        ("plug.py:nine", "has no function 'nine'; did you mean 'mine'?"),
        ("broken.py:mine", "broken.py:1: ZeroDivisionError: division by zero; fix it there"),
        ("no_such_package.x:mine", "cannot import no_such_package.x"),
        ("zoo_broken_module:mine", "zoo_broken_module.py:1: ZeroDivisionError: division by zero; fix it there"),
        (":mine", "no file or module before the colon"),
        ("plug.py:", "no function after the colon"),
        ("plug.py", "names a file but no function in it; write plug.py:mine; it has mine"),
        (
            "odd.py:odd",
            "odd.py:4: TypeError: loss odd: scores must be annotated Scores or RankedScores, not int; fix it there",
        ),
        ("forgot.py:mine", "NameError: name 'loss' is not defined; add `from prefzoo.losses import loss` at the top"),
        ("plain.py:bare", "loss bare(policy, weights): weights is not an input of a loss, and a knob needs a default"),
        ("plain.py:renamed", "loss renamed(pi, ref, beta): a loss takes policy, then any of reference, scores"),
        ("plain.py:renamed", "did you mean 'policy'?"),
        (
            "plain.py:late",
            "name 'Scores' is not defined; add `from prefzoo.types import Scores` at the top of the file",
        ),
        ("plain.py:number", "has no function, but something else, named 'number'; it has bare, renamed, late"),
    ],
)
def test_wrong_names_are_told_apart(name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "zoo_broken_module.py").write_text("1 / 0")
    (tmp_path / "plug.py").write_text(PLUGIN)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "odd.py").write_text(PLUGIN.replace("mine(policy", "odd(policy, scores: int"))
    (tmp_path / "forgot.py").write_text(PLUGIN.replace("import Positive, loss", "import Positive"))
    (tmp_path / "plain.py").write_text(PLAIN)
    with pytest.raises(UserError) as caught:
        losses.get(name, tmp_path)
    assert says in caught.value.lines[0] and len(caught.value.lines) == 1
    assert (caught.value.hint == TEMPLATE) == (":" in name or name.endswith(".py"))


def test_knobs_become_a_strict_schema() -> None:
    params = losses.get("cdpo").Params
    assert set(params.model_fields) == {"beta", "flip_rate"}
    for wrong in ({"betta": 1.0}, {"beta": 0.0}, {"beta": -1.0}, {"flip_rate": 0.5}, {"beta": float("nan")}):
        with pytest.raises(ValidationError):
            params(**wrong)


def starred(policy: LogProbs, **knobs: float) -> torch.Tensor: ...
def untyped(policy: LogProbs, beta=None) -> torch.Tensor: ...  # type: ignore[no-untyped-def]
def surprising(policy: LogProbs, weights: LogProbs) -> torch.Tensor: ...
def positional(policy: LogProbs, /) -> torch.Tensor: ...
def defaultless(policy: LogProbs, *, beta: Positive) -> torch.Tensor: ...
def misnamed(policy: LogProbs, kl: Scores) -> torch.Tensor: ...
def stateless(policy: LogProbs, state: int) -> torch.Tensor: ...
def mixed(policy: Answers, reference: LogProbs) -> torch.Tensor: ...


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (lambda chosen_len: chosen_len, "takes policy, then any of"),
        (starred, r"no \*args, \*\*kwargs or /"),
        (untyped, "knob 'beta' needs a type, like"),
        (surprising, "weights is not an input of a loss, and a knob needs a default"),
        (positional, "takes policy, then any of"),
        (defaultless, "beta is not an input of a loss, and a knob needs a default"),
        (misnamed, "kl must be annotated TokenKL, not Scores"),
        (stateless, r"state needs a class with a classmethod start\(\)"),
        (mixed, "must both be pairs, or both Answers"),
    ],
)
def test_a_signature_that_is_no_loss_is_refused(fn: Callable[..., torch.Tensor], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        losses.loss(paper="none")(fn)


def fitting(policy: LogProbs, *, beta: Positive = 1.0) -> torch.Tensor: ...


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        ({"group": "cats"}, "no such group: 'cats'; there are pairwise"),
        ({"grid": {"bta": (1.0,)}}, "grid names 'bta', which is not one"),
        ({"grid": {"beta": (1.0, -1.0)}}, "grid of beta has -1.0: Input should be greater than 0"),
    ],
)
def test_notes_that_do_not_fit_are_refused(notes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        losses.loss(paper="none", **notes)(fitting)


def test_a_default_outside_its_bounds_is_refused() -> None:
    @losses.loss(paper="none")
    def bad_default(policy: LogProbs, *, beta: Positive = -1.0) -> torch.Tensor:
        return policy.margin

    with pytest.raises(ValidationError, match="greater than 0"):
        bad_default.Params()


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'dpo' of .*test_losses_registry.py is taken by .*losses/dpo.py; rename"):

        @losses.loss(paper="none")
        def dpo(policy: LogProbs) -> torch.Tensor:
            return policy.margin


def test_two_plugins_of_one_name_are_both_named(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(PLUGIN)
    losses.get("a/mine.py:mine", tmp_path)
    with pytest.raises(UserError) as caught:
        losses.get("b/mine.py:mine", tmp_path)
    assert len(caught.value.lines) == 1
    assert f"'mine' of {tmp_path}/b/mine.py is taken by {tmp_path}/a/mine.py; rename one" in caught.value.lines[0]


def test_a_plugin_module_of_a_taken_name_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo_taken_module.py").write_text(PLUGIN.replace("mine(", "dpo("))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"^loss 'dpo' of .*zoo_taken_module.py is taken by .*dpo.py; rename one"):
        losses.get("zoo_taken_module:dpo")


def test_an_entry_point_of_a_taken_name_is_told_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zoo_twin_module.py").write_text(PLUGIN.replace("mine(", "dpo("))
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("offered", "zoo_twin_module:dpo", "prefzoo.losses")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    _registry._load_entry_points.cache_clear()
    assert losses.get("dpo").paper.startswith("Rafailov")
    err = capsys.readouterr().err
    assert "entry point offered = zoo_twin_module:dpo fails" in err and "is taken by" in err and "rename one" in err


def test_adding_a_loss_is_one_function_as_contributing_says() -> None:
    """The example of docs/extending.md: registered, and worth what its golden row says."""
    text = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    section = text.split("## Adding a loss\n")[1].split("\n## ")[0]
    function, row = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, Any] = {"log1p": math.log1p, "exp": math.exp, "Row": Row, "__name__": "contributed"}
    exec(compile(function, "contributed.py", "exec"), names)
    golden = eval(row, names)
    loss = losses.get("mine")
    assert loss is names["mine"] and loss.needs_reference and "\\log" in loss.doc
    assert golden.world.each(loss, loss.Params(**golden.knobs)).tolist() == pytest.approx([golden.expected])


def test_a_mean_is_refused_and_a_missing_reference_named() -> None:
    @losses.loss(paper="none")
    def averaged(policy: LogProbs) -> torch.Tensor:
        return policy.margin.mean()

    policy = LogProbs(torch.zeros(3), torch.zeros(3), torch.ones(3), torch.ones(3))
    with pytest.raises(ValueError, match="one value per pair"):
        averaged.each(policy, None, averaged.Params())
    loss = losses.get("dpo")
    with pytest.raises(ValueError, match="compares with a reference, but none was given; score one, or use a loss w"):
        loss.each(policy, None, loss.Params())
