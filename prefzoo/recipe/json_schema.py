"""Describe recipes by a JSON Schema (draft 2020-12), built from the types, for editors and other programs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

from prefzoo import losses
from prefzoo.losses import Loss, Modifier
from prefzoo.recipe.descriptions import FIELDS
from prefzoo.recipe.load import SLUG, Recipe
from prefzoo.runtime.run_folders import BASE

DRAFT = "https://json-schema.org/draft/2020-12/schema"
PLUGIN = {"pattern": ":", "description": "Your own loss: my_losses.py:mine or package.module:mine."}
SUM = {"pattern": r"[+*]", "description": "A weighted sum like dpo + 0.2*sft; each term's knobs go under its name."}
NOT_KNOBS = ("loss", "reference", "train", "modifiers")  # other keys of a variant
PLUGIN_MODIFIER = {"pattern": ":", "description": "Your own modifier: my_modifiers.py:mine or package.module:mine."}
MODIFIERS = "Modifiers of the loss, in the order in which they act: `prefzoo losses` lists modifiers and losses."
JsonSchema = dict[str, Any]
MODEL: JsonSchema = {"type": "string", "minLength": 1}
REFERENCE: JsonSchema = {
    "description": "Another model as this variant's reference, or a list to try.",
    "anyOf": [MODEL, {"type": "array", "items": MODEL, "minItems": 1}],
}


def schema_text(known: Sequence[Loss] | None = None) -> str:
    """Return the schema as the text of a file, for all registered losses or for some."""
    return (
        json.dumps(recipe_schema(list(losses.all_losses()) if known is None else known), indent=1, ensure_ascii=False)
        + "\n"
    )


def recipe_schema(known: Sequence[Loss]) -> JsonSchema:
    """Return the schema of a whole recipe; each loss has its knobs, with their bounds and defaults."""
    root = Recipe.model_json_schema()
    root["$defs"].pop("Variant")
    root["$defs"].pop("Params", None)
    root = {"$schema": DRAFT, "title": "prefzoo recipe", **_without_titles(root)}
    root["description"] = "One model, one preference data set, several losses: `prefzoo run` trains and compares them."
    for section in ("train", "evals"):  # a heading with nothing below it is allowed
        root["properties"][section] = {"anyOf": [_ref(section.title()), {"type": "null"}]}
    root["properties"]["reference"]["anyOf"].append(REFERENCE["anyOf"][1])  # a list to try
    root["properties"]["rounds"]["anyOf"].append({"type": "integer", "minimum": 1, "maximum": 99})
    _describe(root, root, "")
    own = copy.deepcopy(root["$defs"]["Train"])
    own["properties"].pop("trackers")
    for part in (own, root["$defs"]["Train"]):
        part["properties"] = {name: _swept(field) for name, field in part["properties"].items()}
    own["description"] = "This variant's own settings, which override the recipe's."
    root["$defs"] |= {"VariantTrain": own, "variant": _variant(known), "modifiers": _modifiers()}
    root["$defs"] |= {f"knobs.{loss.name}": _knobs(loss) for loss in known}
    root["$defs"] |= {f"loss.{loss.name}": _of_loss(loss) for loss in known}
    named = {"type": "object", "required": ["loss"]}
    root["properties"]["variants"] = {
        "description": FIELDS["variants"],
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": SLUG, "not": {"const": BASE}},
        "properties": {
            loss.name: {"if": named, "then": _ref("variant"), "else": _ref(f"loss.{loss.name}")} for loss in known
        },
        "additionalProperties": {**named, "$ref": "#/$defs/variant"},
    }
    return root


def _variant(known: Sequence[Loss]) -> JsonSchema:
    """Return the schema of a variant that names its loss, which decides the other fields."""
    names = {"enum": [loss.name for loss in known]}
    chosen = [
        {
            "if": {"properties": {"loss": {"const": loss.name}}, "required": ["loss"]},
            "then": _ref(f"loss.{loss.name}"),
        }
        for loss in known
    ]
    terms = {
        "if": {"properties": {"loss": {"type": "string", **SUM}}, "required": ["loss"]},
        "then": {
            "properties": {
                **{key: True for key in NOT_KNOBS},
                **{loss.name: _ref(f"knobs.{loss.name}") for loss in known},
            },
            "additionalProperties": {"type": "object"},
        },
    }
    return {
        "type": "object",
        "properties": {
            "loss": {
                "type": "string",
                "anyOf": [names, PLUGIN, SUM],
                "description": "A loss that `prefzoo losses` lists.",
            },
            "reference": REFERENCE,
            "train": {"anyOf": [_ref("VariantTrain"), {"type": "null"}]},
            "modifiers": _ref("modifiers"),
        },
        "allOf": [*chosen, terms],
    }


def _modifiers() -> JsonSchema:
    """Return the schema of a variant's modifiers: names, or mappings from one name to its knobs."""
    known = list(losses.all_modifiers())
    entries = {one.name: {"anyOf": [_swept_knobs(one), {"type": "null"}]} for one in known}
    names = {"type": "string", "anyOf": [{"enum": list(entries)}, PLUGIN_MODIFIER]}
    one = {
        "type": "object", "properties": entries, "patternProperties": {":": True}, "additionalProperties": False,
        "minProperties": 1, "maxProperties": 1,
    }  # fmt: skip
    return {"description": MODIFIERS, "type": ["array", "null"], "items": {"anyOf": [names, one]}}


def _swept_knobs(one: Modifier) -> JsonSchema:
    knobs = _knobs(one)
    return {**knobs, "properties": {name: _swept(field) for name, field in knobs["properties"].items()}}


def _knobs(loss: Loss | Modifier) -> JsonSchema:
    """Return the schema of a loss's or modifier's knobs, with published grids in their descriptions."""
    knobs: JsonSchema = _without_titles(loss.Params.model_json_schema())
    for name, field in knobs.get("properties", {}).items():
        grid = ", ".join(f"{v:g}" for v in loss.grid.get(name, ()))
        field["description"] = f"A knob of {loss.name}" + (f"; tuned over {grid}." if grid else ".")
    knobs.setdefault("properties", {})
    knobs["description"] = " ".join(
        [*loss.doc.splitlines()[:1], *([f"{loss.paper}."] if loss.paper else [])]
    )  # a user's loss may have no docstring
    return knobs


def _of_loss(loss: Loss) -> JsonSchema:
    """Return the schema of a variant of this loss: its knobs and its own settings of the loop."""
    knobs = _knobs(loss)
    return {
        **knobs,
        "type": ["object", "null"],
        "properties": {
            "loss": {"type": "string"},
            "train": {"anyOf": [_ref("VariantTrain"), {"type": "null"}]},
            "reference": REFERENCE,
            "modifiers": _ref("modifiers"),
            "sweep": {"const": "paper", "description": "The grid of the loss's paper, or a default one."},
            **{name: _swept(field) for name, field in knobs["properties"].items()},
        },
    }


def _swept(field: JsonSchema) -> JsonSchema:
    """Let a field also be a list of its values, or a range, to tune over."""
    one = {k: v for k, v in field.items() if k not in ("description", "default")}
    notes = {k: v for k, v in field.items() if k in ("description", "default")}
    if one.get("type") == "array" or "$ref" in str(one):  # fields whose value is a list, and sections
        return field
    ends = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    ranges = [
        {"type": "object", "properties": {scale: ends}, "required": [scale], "additionalProperties": False}
        for scale in ("log", "uniform")
    ]
    return {**notes, "anyOf": [one, {"type": "array", "items": one, "minItems": 1}, *ranges]}


def _ref(name: str) -> JsonSchema:
    return {"$ref": f"#/$defs/{name}"}


def _without_titles(value: Any) -> Any:
    """Remove pydantic's titles, which repeat the names."""
    if isinstance(value, dict):
        return {k: _without_titles(v) for k, v in value.items() if k != "title" or not isinstance(v, str)}
    return [_without_titles(v) for v in value] if isinstance(value, list) else value


def _kinds(field: JsonSchema) -> Iterator[JsonSchema]:
    """Yield a field and all that it may be: the options of a choice, and the items of a list."""
    yield field
    for inner in (*field.get("anyOf", ()), *field.get("oneOf", ()), field.get("items")):
        if isinstance(inner, dict):
            yield from _kinds(inner)


def _describe(schema: JsonSchema, root: JsonSchema, prefix: str) -> None:
    """Add its description to every field, also in the sections below."""
    for name, field in schema.get("properties", {}).items():
        if prefix + name in FIELDS:
            field["description"] = FIELDS[prefix + name]
        for kind in _kinds(field):
            target = kind.get("$ref", "").removeprefix("#/$defs/")
            if target and name != "judge":  # the kinds of judges describe themselves
                _describe(root["$defs"][target], root, f"{prefix}{name}.")
