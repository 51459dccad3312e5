"""Word the errors that pydantic finds in a recipe: each message names the value and the cure."""

from __future__ import annotations

import math
import re
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from prefzoo.errors import did_you_mean
from prefzoo.losses import AnyLoss, Modifier
from prefzoo.recipe import judge
from prefzoo.recipe.other_names import suggested_value, suggestion
from prefzoo.recipe.sections import Data
from prefzoo.recipe.sources import SOURCE, SOURCES, Source
from prefzoo.recipe.yaml import Keys

SHOWN_COLUMNS = 3
DATA_SETS = ("train", "eval")  # fields of `data`
LONGEST = 60  # characters of a value that a message shows

# What a field must be, by pydantic's name for the error.
_TYPES = {
    "int_type": "a whole number",
    "bool_type": "true or false",
    "float_type": "a number",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping, `key: value`",
    "model_type": "a mapping of fields",
}
_BOUNDS = {
    "greater_than": "greater than {gt:.12g}",
    "greater_than_equal": "at least {ge:.12g}",
    "less_than": "less than {lt:.12g}",
    "less_than_equal": "at most {le:.12g}",
    "literal_error": "{expected}",
    "finite_number": "a finite number",
    "string_too_short": "non-empty text",
}
_NUMERIC = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")
_REFERENCE = ("reference_model", "reference_free", "ref", "ref_model", "ref_model_name_or_path")  # in other tools
REFERENCE_CURE = (
    "name a model by `reference:`, or leave it out for the untrained `model`; `prefzoo losses` lists losses that need "
    "no reference"
)
_REQUIRED = {
    "name": "name: my-run",
    "model": "model: org/name (a hub id, a folder or a .gguf file)",
    "data": "data: {train: pairs.jsonl}",
    "train": "train: pairs.jsonl",
    "path": "path: pairs.jsonl (a file, a folder or a hub id)",
    "url": "url: http://localhost:8000/v1",
    "annotator": "annotator: weighted_alpaca_eval_gpt4_turbo (or a YAML file)",
}


def error_keys(error: ErrorDetails) -> Keys:
    """Return the keys that lead to the value that an error is about."""
    return tuple(part for part in _tagged(error) if not part.startswith(judge.TAG))


def _tagged(error: ErrorDetails) -> Keys:
    """Return the keys, with the tag of its kind where a judge's mapping begins."""
    return tuple(str(part) for part in error["loc"] if part not in ("[key]", judge.tag("text")))


def describe_error(model: type[BaseModel], error: ErrorDetails, loss: AnyLoss | Modifier | None = None) -> str:
    """Return the message for one error: what is wrong with the value, and the cure.

    Args:
        model: The model that was validated.
        error: One of pydantic's errors.
        loss: The loss or modifier whose knobs were validated, if any.

    Returns:
        The message, without the place in the recipe.
    """
    loc, kind, value = error_keys(error), error["type"], error.get("input")
    if kind == "extra_forbidden":
        return _unknown_field(loc[-1], list(_model_at(model, _tagged(error)[:-1]).model_fields), loss)
    if kind == "missing":
        return f"is missing; add `{_REQUIRED.get(loc[-1], f'{loc[-1]}: ...')}`"
    if kind == "string_pattern_mismatch":
        return invalid_name(value)
    if kind in _TYPES:
        return f"must be {_TYPES[kind]} (is {format_value(value)}){_type_hint(kind, value)}"
    if "[key]" in error["loc"]:
        return _unknown_column(loc[-1], re.findall(r"'([^']+)'", error["ctx"]["expected"]))
    if kind in _BOUNDS:
        hint = ""
        if kind == "literal_error":
            known = re.findall(r"'([^']+)'", error["ctx"]["expected"])
            hint = suggested_value(str(value), known) or did_you_mean(str(value), known)
        if loss is not None and kind in _NUMERIC:
            hint = f"; its default is {_model_at(model, loc[:-1]).model_fields[loc[-1]].default:.12g}"
        return f"must be {_BOUNDS[kind].format(**error.get('ctx', {}))} (is {format_value(value)}){hint}"
    return str(error["msg"])


def _unknown_field(word: str, known: list[str], loss: AnyLoss | Modifier | None) -> str:
    if word in _REFERENCE:
        problem = "no such field" if loss is None else f"no such parameter of {loss.name}"
        return f"{problem}; {REFERENCE_CURE}"
    if loss is None:
        hint = suggestion(word, known) or did_you_mean(word, known) or "; there are " + ", ".join(known)
        return f"no such field{hint}"
    has = f"which has {', '.join(known)}" if known else "which has none"
    allowed = known if isinstance(loss, Modifier) else [*known, "loss", "reference", "train", "modifiers"]
    hint = suggestion(word, allowed, in_variant=True) or did_you_mean(word, allowed) or "; remove it"
    return f"no such parameter of {loss.name}, {has}{hint}"


def _unknown_column(word: str, known: list[str]) -> str:
    some = f"; there are {', '.join(known[:SHOWN_COLUMNS])}, ... (`prefzoo data --formats` lists all)"
    return f"no such field{did_you_mean(word, known) or some}"


def invalid_name(name: str) -> str:
    """Return why a name is not allowed, with a similar one that is."""
    near = re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("-_.")[:64]
    return f"not a name for a folder ({name!r:.80}): a-z, 0-9, _ . - only, at most 64; like {near or 'my-run'!r}"


def _model_at(model: type[BaseModel], loc: Keys) -> type[BaseModel]:
    for key in loc:
        # the mark of its kind comes next
        if key in ("judge", "of") or (model is Data and key in DATA_SETS) or key.isdecimal():
            continue
        if key in (SOURCE, SOURCES):
            model = Source
            continue
        if key.startswith(judge.TAG):
            model = judge.kinds()[key.removeprefix(judge.TAG)]
            continue
        annotation = model.model_fields[key].annotation
        kinds = get_args(annotation) or (annotation,)
        model = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
    return model


def _type_hint(kind: str, value: Any) -> str:
    """Return the cure for a value of the wrong type, if its intent is obvious."""
    if value is None:
        return "; leave the field out for its default"
    if kind == "string_type" and not isinstance(value, dict | list):
        return f"; put it in quotes: '{value}'"
    if kind == "list_type" and isinstance(value, str):
        return f"; write it as a list: [{value}]"
    plain = value.replace("_", "") if isinstance(value, str) else ""
    try:
        number = float(plain) if kind == "float_type" else int(plain)
    except ValueError:
        return ""
    if not math.isfinite(number):
        return "; it must be finite"
    return f"; write it without quotes: {plain}" if kind in ("float_type", "int_type") else ""


def format_value(value: Any) -> str:
    """Format a value for a message: short, and as YAML writes it."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**15 else f"a number of {len(str(value))} digits"
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
