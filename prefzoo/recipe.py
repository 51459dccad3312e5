"""The recipe: what decides the outcome, and nothing else. `load` says everything that is wrong with one at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from prefzoo import _yaml, losses
from prefzoo.errors import UserError, did_you_mean
from prefzoo.losses import Loss, Params

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0)]
Number = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Data(_Section):
    """Preference rows: where from, and how long they may be."""

    train: Text
    eval: Text | None = None
    columns: dict[Literal["prompt", "chosen", "rejected"], Text] = {}
    max_length: Annotated[int, Field(ge=8)] = 1024
    too_long: Literal["drop", "cut"] = "drop"


class Lora(_Section):
    """A low-rank adapter; the reference is then the same weights with the adapter off."""

    rank: Count = 16
    alpha: Number = 32.0
    dropout: Share = 0.0
    targets: Text | list[Text] = "all-linear"


class Train(_Section):
    """The loop. `batch` is the effective batch in pairs, over all devices and accumulated micro-batches."""

    batch: Count = 8
    micro_batch: Count | None = None
    epochs: Number = 1.0
    steps: Count | None = None
    learning_rate: Number = 1e-6
    warmup: Share = 0.1
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    max_grad_norm: Number = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    lora: Lora | None = None

    @model_validator(mode="after")
    def _divides(self) -> Train:
        if self.micro_batch and self.batch % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} does not divide batch {self.batch}")
        return self


class Evals(_Section):
    """What is measured on the base and on every variant."""

    prompts: Text | None = None
    judge: Literal["verifier"] = "verifier"
    max_new_tokens: Count = 64
    benchmarks: list[Text] = []


class Variant(_Section):
    """One loss with its knobs, and the training settings it runs with (the recipe's, with its own on top)."""

    loss: Text
    params: SerializeAsAny[Params]
    train: Train


class Recipe(_Section):
    """A whole experiment. `variants` by name, in the order of the file."""

    name: Slug
    seed: Annotated[int, Field(ge=0)] = 0
    model: Text
    data: Data
    train: Train = Train()
    variants: Annotated[dict[Slug, Variant], Field(min_length=1)]
    evals: Evals = Evals()
    folder: Path = Field(default=Path("."), exclude=True)

    def loss(self, variant: str) -> Loss:
        """The loss of a variant."""
        return losses.get(self.variants[variant].loss, self.folder)

    def resolved(self) -> dict[str, Any]:
        """Plain values with every default filled in."""
        return self.model_dump(mode="json")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; `overrides` are `a.b=c` with YAML values.

    Raises:
        UserError: all faults at once, each `file:line: field: what is wrong; cure`.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; give the path of a recipe, like recipes/quickstart.yaml")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 text ({e.reason} at byte {e.start})") from e
    document, lines = _yaml.parse(text, str(path))
    if not isinstance(document, dict):
        found = "is empty" if document is None else f"holds a {type(document).__name__} at the top"
        raise UserError(f"{path}: {found}; a recipe is a mapping with name, model, data and variants")
    places = {field: f"{path}:{line}" for field, line in lines.items()}
    for override in overrides:
        _override(document, override, places)
    return _build(document, places, path)


def _override(document: dict[str, Any], override: str, places: dict[_yaml.Path, str]) -> None:
    name, equals, value = override.partition("=")
    keys = tuple(name.strip().split("."))
    if not equals or not all(keys):
        raise UserError(f"--set {override}: expected field=value, like train.learning_rate=1e-5")
    parsed, _ = _yaml.parse(value, f"--set {override}")
    at = document
    for i, key in enumerate(keys[:-1]):
        if at.get(key) is None:
            at[key] = {}
        if not isinstance(at[key], dict):
            raise UserError(f"--set {override}: {'.'.join(keys[: i + 1])} is a value, not a section")
        at = at[key]
    at[keys[-1]] = parsed
    for i in range(len(keys)):  # a fault in a section that only the override made is the override's
        places.setdefault(keys[: i + 1], f"--set {override}")
    places[keys] = f"--set {override}"


def _build(document: dict[str, Any], places: dict[_yaml.Path, str], path: Path) -> Recipe:
    faults: list[str] = []
    outline = dict(document)
    variants = outline.pop("variants", None)
    made: dict[str, Any] = {}
    if not isinstance(variants, dict) or not variants:
        where = places.get(("variants",), str(path))
        faults.append(f"{where}: variants: at least one is needed, like `variants: {{dpo: {{beta: 0.1}}}}`")
    else:
        shared = outline.get("train") if isinstance(outline.get("train"), dict) else {}
        for name, body in variants.items():
            made[str(name)] = _variant(str(name), body, shared, places, path, faults)
    found = None
    try:
        found = Recipe.model_validate({**outline, "variants": made or {"x": _PLACEHOLDER}, "folder": path.parent})
    except ValidationError as e:
        faults += _explain(e, (), places, path, Recipe)
    if faults or found is None:
        raise UserError(sorted(faults, key=_by_line))
    return found


def _variant(
    name: str, body: Any, shared: Any, places: dict[_yaml.Path, str], path: Path, faults: list[str]
) -> Variant:
    at = ("variants", name)
    place = places.get(at, str(path))
    if name == "base":
        faults.append(f"{place}: variants.base: the untrained model is called base; choose another name")
    if body is not None and not isinstance(body, dict):
        faults.append(f"{place}: variants.{name}: is {body!r}; expected a mapping of the loss's knobs, or nothing")
        return _PLACEHOLDER
    knobs = dict(body or {})
    loss_name, own = knobs.pop("loss", name), knobs.pop("train", None) or {}
    try:
        found = losses.get(str(loss_name), path.parent)
    except UserError as e:
        faults.extend(f"{places.get((*at, 'loss'), place)}: variants.{name}: {line}" for line in e.lines)
        return _PLACEHOLDER
    params, train = found.Params(), Train()
    try:
        params = found.Params.model_validate(knobs)
    except ValidationError as e:
        faults += _explain(e, at, places, path, found.Params)
    try:
        train = Train.model_validate({**shared, **own} if isinstance(own, dict) else own)
    except ValidationError as e:
        mine = own if isinstance(own, dict) else {"": 0}
        faults += [f for f, field in _pairs(e, (*at, "train"), places, path, Train) if field in mine or "" in mine]
    return Variant(loss=str(loss_name), params=params, train=train)


_PLACEHOLDER = Variant(loss="sft", params=Params(), train=Train())


def _explain(
    error: ValidationError, at: _yaml.Path, places: dict[_yaml.Path, str], path: Path, model: type[BaseModel]
) -> list[str]:
    return [line for line, _ in _pairs(error, at, places, path, model)]


def _pairs(
    error: ValidationError, at: _yaml.Path, places: dict[_yaml.Path, str], path: Path, model: type[BaseModel]
) -> list[tuple[str, str]]:
    found = []
    for fault in error.errors():
        location = tuple(str(p) for p in fault["loc"])
        field = (*at, *location)
        while field and field not in places and fault["type"] not in ("missing",):
            field = field[:-1]
        near = field
        while near and near not in places:
            near = near[:-1]
        place = places.get(near, str(path))
        said = _said(fault, model, location)
        found.append((f"{place}: {'.'.join(field) or 'recipe'}: {said}", location[0] if location else ""))
    return found


def _said(fault: Any, model: type[BaseModel], location: tuple[str, ...]) -> str:
    kind, value = fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        known = _fields(model, location[:-1])
        return f"no such field{did_you_mean(location[-1], known)} (known here: {', '.join(known) or 'none'})"
    if kind == "missing":
        return "missing; it has no default"
    if kind == "value_error":
        return str(fault["msg"]).removeprefix("Value error, ")
    said = str(fault["msg"])[0].lower() + str(fault["msg"])[1:]
    cure = "; write the number without quotes" if isinstance(value, str) and kind in ("float_type", "int_type") else ""
    return f"{said}, not {value!r}{cure}"


def _fields(model: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    """The fields of the section at `location`."""
    for key in location:
        inner = model.model_fields.get(key)
        if inner is None:
            return []
        options = [inner.annotation, *getattr(inner.annotation, "__args__", ())]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return [f for f in model.model_fields if f != "folder"]


def _by_line(fault: str) -> tuple[bool, int, str]:
    line = fault.split(":")[1] if fault.count(":") else ""
    return (not line.isdigit(), int(line) if line.isdigit() else 0, fault)


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML."""
    return yaml.safe_dump(recipe.resolved(), sort_keys=False, allow_unicode=True)
