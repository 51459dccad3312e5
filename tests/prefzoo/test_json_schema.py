"""The recipe's JSON Schema: it is current, every recipe passes it, and what `load` refuses it refuses too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from torch import Tensor

from prefzoo import losses
from prefzoo.errors import UserError
from prefzoo.recipe import json_schema
from prefzoo.recipe.axes import Sweep
from prefzoo.recipe.descriptions import FIELDS
from prefzoo.recipe.load import Recipe, Variant, load
from prefzoo.recipe.rounds import Rounds
from prefzoo.recipe.sections import Train
from prefzoo.recipe.sources import Source
from prefzoo.recipe.yaml import RawRecipe
from prefzoo.types import LogProbs

RECIPES = Path(__file__).parents[2] / "recipes"
KEPT = RECIPES / "recipe.schema.json"
OURS = list(losses.all_losses())
WHOLE = "name: tiny\nmodel: some/model\ndata: {train: pairs.jsonl}\n"


@pytest.fixture(scope="module")
def checker() -> Draft202012Validator:
    values = json.loads(KEPT.read_text())
    Draft202012Validator.check_schema(values)
    return Draft202012Validator(values)


def test_the_kept_file_is_current() -> None:
    assert KEPT.read_text() == json_schema.schema_text(OURS), "run: prefzoo schema --out recipes/recipe.schema.json"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_passes(path: Path, checker: Draft202012Validator) -> None:
    checker.validate(RawRecipe(path).data)


GOOD = [
    "variants: {dpo: }",
    "train: \nevals: \nvariants: {a: {loss: dpo, beta: 1}}",
    "variants: {dpo: {loss: simpo, gamma: 0.5}}",  # a name says nothing where a loss is given
    "variants: {both: {loss: dpo + 0.2*sft, dpo: {beta: 0.05}, train: {batch: 4}}}",
    "variants: {own: {loss: 'my_losses.py:mine', anything: 3}}",
    "variants: {dpo: {train: {lora: null, sync_reference: {alpha: 0.5}}}}",
    "variants: {dpo: }\nevals: {judge: {kind: server, url: 'http://localhost:8000/v1', model: m}}",
    "variants: {dpo: }\ntrain: {lora: {targets: [q_proj]}, trackers: [tensorboard]}",
    "variants: {dpo: }\ndata: {train: a.jsonl, columns: {chosen: better}}",
]
WRONG = [
    "",
    "variants: {}",
    "variants: {dpoo: {beta: 0.1}}",
    "variants: {mine: }",
    "variants: {base: {loss: dpo}}",
    "variants: {Upper: {loss: dpo}}",
    "variants: {dpo: {beta: -1}}",
    "variants: {dpo: {beta: '0.1'}}",
    "variants: {dpo: {betta: 0.1}}",
    "variants: {a: {loss: dpo, gamma: 0.1}}",
    "variants: {a: {loss: nothing}}",
    "variants: {a: {loss: cdpo, flip_rate: 0.5}}",
    "variants: {a: {loss: dpo + sft, dpo: {beta: -1}}}",
    "variants: {dpo: {train: {trackers: [tensorboard]}}}",
    "variants: {dpo: {train: {learning_rat: 1}}}",
    "variants: {dpo: }\ntrain: {batch: 0}",
    "variants: {dpo: }\ntrain: {schedule: cosin}",
    "variants: {dpo: }\nseed: -1",
    "variants: {dpo: }\nextra: 1",
    "variants: {dpo: }\ndata: {train: a.jsonl, columns: {best: chosen}}",
    "variants: {dpo: }\nevals: {judge: {kind: oracle}}",
    "variants: {dpo: }\nevals: {judge: {kind: reward, model: m, spare: 1}}",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_right_passes(text: str, checker: Draft202012Validator, tmp_path: Path) -> None:
    checker.validate(_data(text, tmp_path))


@pytest.mark.parametrize("text", WRONG)
def test_what_load_refuses_it_refuses(text: str, checker: Draft202012Validator, tmp_path: Path) -> None:
    assert not checker.is_valid(_data(text, tmp_path))
    with pytest.raises(UserError):
        load(tmp_path / "r.yaml")


def _data(text: str, folder: Path) -> Any:
    head = WHOLE if "data:" not in text else WHOLE[: WHOLE.index("data:")]
    (folder / "r.yaml").write_text(head + text)
    return RawRecipe(folder / "r.yaml").data


def test_every_loss_and_knob_is_in_it() -> None:
    defs = json.loads(KEPT.read_text())["$defs"]
    for loss in OURS:
        knobs = defs[f"loss.{loss.name}"]
        fields = {"loss", "reference", "train", "modifiers", "sweep"}
        assert set(knobs["properties"]) == {*fields, *loss.Params.model_fields}
        assert loss.paper in knobs["description"]
        for name, field in loss.Params.model_fields.items():
            assert knobs["properties"][name]["default"] == field.default


def test_a_loss_without_a_docstring_is_described_by_its_paper() -> None:
    def bare_of_words(policy: LogProbs) -> Tensor:
        return -policy.margin

    loss = losses.loss(paper="mine")(bare_of_words)
    assert json_schema.recipe_schema([loss])["$defs"]["knobs.bare_of_words"]["description"] == "mine."


def test_every_field_has_a_sentence() -> None:
    def parts(annotation: Any) -> set[Any]:
        return {p for inner in get_args(annotation) for p in (inner, *parts(inner))}

    def paths(model: type[BaseModel], prefix: str = "") -> set[str]:
        sentences = set()
        for name, field in model.model_fields.items():
            sentences.add(prefix + name)
            kinds = (field.annotation, *parts(field.annotation))
            inside = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel) and k is not Variant]
            sentences |= {
                p
                for k in inside
                if k.__module__ in (Train.__module__, Sweep.__module__, Source.__module__, Rounds.__module__)
                for p in paths(k, f"{prefix}{name}.")
            }
        return sentences

    described = {f"data.eval{name.removeprefix('data.train')}" for name in FIELDS if name.startswith("data.train.")}
    assert paths(Recipe) == set(FIELDS) | described  # sources of both uses have the same fields
