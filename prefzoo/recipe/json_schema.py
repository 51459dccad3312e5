"""The recipe as JSON Schema (draft 2020-12), for editors and for checks without this package. Made of the types."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from prefzoo import losses
from prefzoo.losses import Loss
from prefzoo.recipe.descriptions import FIELDS
from prefzoo.recipe.load import RESERVED, SLUG, Recipe

DRAFT = "https://json-schema.org/draft/2020-12/schema"
PLUGIN = {"pattern": ":", "description": "Your own loss: my_losses.py:mine or package.module:mine."}
SUM = {"pattern": r"[+*]", "description": "A weighted sum like dpo + 0.2*sft; each term's knobs stand under its name."}
OPEN = ("loss", "train")  # keys of a variant that are no knobs
Schema = dict[str, Any]


def schema_text(found: Sequence[Loss] | None = None) -> str:
    """The schema as it is kept in a file; of all registered losses, or of some."""
    return (
        json.dumps(recipe_schema(list(losses.all_losses()) if found is None else found), indent=1, ensure_ascii=False)
        + "\n"
    )


def recipe_schema(found: Sequence[Loss]) -> Schema:
    """The schema of a whole recipe, every loss with its knobs, bounds, defaults and formula."""
    made = Recipe.model_json_schema()
    made["$defs"].pop("Variant")
    made["$defs"].pop("Params", None)
    made = {"$schema": DRAFT, "title": "prefzoo recipe", **_plain(made)}
    made["description"] = "One model, one preference data set, several losses: `prefzoo run` trains and compares them."
    for section in ("train", "evals"):  # a heading with nothing under it is allowed
        made["properties"][section] = {"anyOf": [_ref(section.title()), {"type": "null"}]}
    _describe(made, made, "")
    own = copy.deepcopy(made["$defs"]["Train"])
    own["properties"].pop("trackers")
    for part in (own, made["$defs"]["Train"]):
        part["properties"] = {name: _swept(field) for name, field in part["properties"].items()}
    own["description"] = "This variant's own settings, over the recipe's."
    made["$defs"] |= {"VariantTrain": own, "variant": _variant(found)}
    made["$defs"] |= {f"knobs.{loss.name}": _knobs(loss) for loss in found}
    made["$defs"] |= {f"loss.{loss.name}": _of_loss(loss) for loss in found}
    named = {"type": "object", "required": ["loss"]}
    made["properties"]["variants"] = {
        "description": FIELDS["variants"],
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": SLUG, "not": {"const": RESERVED}},
        "properties": {
            loss.name: {"if": named, "then": _ref("variant"), "else": _ref(f"loss.{loss.name}")} for loss in found
        },
        "additionalProperties": {**named, "$ref": "#/$defs/variant"},
    }
    return made


def _variant(found: Sequence[Loss]) -> Schema:
    """A variant that names its loss: the rest follows from the name."""
    names = {"enum": [loss.name for loss in found]}
    chosen = [
        {
            "if": {"properties": {"loss": {"const": loss.name}}, "required": ["loss"]},
            "then": _ref(f"loss.{loss.name}"),
        }
        for loss in found
    ]
    terms = {
        "if": {"properties": {"loss": {"type": "string", **SUM}}, "required": ["loss"]},
        "then": {
            "properties": {
                **{key: True for key in OPEN},
                **{loss.name: _ref(f"knobs.{loss.name}") for loss in found},
            },
            "additionalProperties": {"type": "object"},
        },
    }
    return {
        "type": "object",
        "properties": {
            "loss": {"type": "string", "anyOf": [names, PLUGIN, SUM], "description": "A loss of `prefzoo losses`."},
            "train": {"anyOf": [_ref("VariantTrain"), {"type": "null"}]},
        },
        "allOf": [*chosen, terms],
    }


def _knobs(loss: Loss) -> Schema:
    """The knobs of one loss; what its paper tried stands in their description."""
    made: Schema = _plain(loss.Params.model_json_schema())
    for name, field in made.get("properties", {}).items():
        grid = ", ".join(f"{v:g}" for v in loss.grid.get(name, ()))
        field["description"] = f"A knob of {loss.name}" + (f"; tuned over {grid}." if grid else ".")
    made.setdefault("properties", {})
    made["description"] = " ".join([*loss.doc.splitlines()[:1], f"{loss.paper}."])  # a user's may have no docstring
    return made


def _of_loss(loss: Loss) -> Schema:
    """A variant of this loss: its knobs, and settings of its own."""
    knobs = _knobs(loss)
    return {
        **knobs,
        "type": ["object", "null"],
        "properties": {
            "loss": {"type": "string"},
            "train": {"anyOf": [_ref("VariantTrain"), {"type": "null"}]},
            "sweep": {"const": "paper", "description": "The grid of the loss's paper, or a default one."},
            **{name: _swept(field) for name, field in knobs["properties"].items()},
        },
    }


def _swept(field: Schema) -> Schema:
    """A field that may also be a list of its values, or a range, to be tuned over."""
    one = {k: v for k, v in field.items() if k not in ("description", "default")}
    said = {k: v for k, v in field.items() if k in ("description", "default")}
    if one.get("type") == "array" or "$ref" in str(one):  # lists of their own, and sections
        return field
    ends = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    ranges = [
        {"type": "object", "properties": {scale: ends}, "required": [scale], "additionalProperties": False}
        for scale in ("log", "uniform")
    ]
    return {**said, "anyOf": [one, {"type": "array", "items": one, "minItems": 1}, *ranges]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _plain(value: Any) -> Any:
    """Without pydantic's titles, which repeat the names."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k != "title" or not isinstance(v, str)}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _describe(schema: Schema, root: Schema, prefix: str) -> None:
    """Put a sentence on every field, of the sections below too."""
    for name, field in schema.get("properties", {}).items():
        if prefix + name in FIELDS:
            field["description"] = FIELDS[prefix + name]
        for kind in (field, *field.get("anyOf", ())):
            target = kind.get("$ref", "").removeprefix("#/$defs/")
            if target and name != "judge":  # whose kinds describe themselves
                _describe(root["$defs"][target], root, f"{prefix}{name}.")
