"""Load recipes: one model, one preference data set, several variants, and everything that decides a run's results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from prefzoo import losses
from prefzoo.errors import UserError
from prefzoo.losses import AnyLoss, Loss, Params, Positive, Sum
from prefzoo.recipe import messages, modifiers, yaml
from prefzoo.recipe.axes import Axis, Sweep, attach_axes, extract_axes, variant_to_plain
from prefzoo.recipe.knobs import knobs_of, validate
from prefzoo.recipe.rounds import RoundsField, in_rounds
from prefzoo.recipe.sections import Data, Evals, RecipeSection, Seed, Text, Train
from prefzoo.recipe.yaml import Keys, RawRecipe
from prefzoo.runtime.plugins import describe_error
from prefzoo.runtime.run_folders import BASE

SLUG = r"^[a-z0-9][a-z0-9_.-]{0,63}$"  # names become folders
NO_MODEL = ("", "none", "null", "false", "off")  # these names mean a loss without a reference


class Variant(RecipeSection):
    """A loss with its knobs, and all settings of its training loop: the recipe's with the variant's own on top.

    The knobs of a modified loss hold `modifiers`, a list of mappings from a modifier's name to its own knobs.
    """

    name: str
    loss: str
    params: Params
    train: Train
    folder: Path
    reference: str | None = None
    axes: tuple[Axis, ...] = ()
    chain: str = ""  # of which it is a round
    round: int = 0  # from 1; 0 in a recipe without rounds

    @property
    def loss_obj(self) -> AnyLoss:
        """The loss with its modifiers; paths of plug-in files are relative to the recipe."""
        return losses.as_listed(losses.get(self.loss, self.folder), self.params, self.folder)


class Recipe(RecipeSection):
    """Everything that decides a run's results. Use `load` to read it from a file."""

    name: Annotated[str, Field(pattern=SLUG)]
    seed: Seed = 0
    seeds: list[Seed] = []
    model: Text
    reference: Text | None = None
    trust_remote_code: bool = False  # whether code that comes with the model is run
    data: Data
    train: Train = Train()
    variants: dict[str, Variant]
    rounds: RoundsField = None
    evals: Evals = Evals()
    keep: Literal["all", "adapters", "best", "none"] = "all"  # weights on disk, once they are measured
    price_per_hour: Positive | None = None  # dollars per hour of the machine; boards then show costs in dollars
    sweep: Sweep | None = None
    _folder: Path = Path()

    @property
    def folder(self) -> Path:
        """The folder of the recipe's file, where its relative paths start."""
        return self._folder

    def resolved(self) -> dict[str, Any]:
        """Return plain values with all defaults filled in; `load` reads their dump back to an equal recipe."""
        plain = self.model_dump(exclude={"variants"})
        variants = {name: variant_to_plain(v) for name, v in self.variants.items()}
        return {field: variants if field == "variants" else plain[field] for field in type(self).model_fields}


def dump(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML."""
    return yaml.dump(recipe.resolved())


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: The recipe's file.
        overrides: Texts like `train.batch=16` that override the file; values are in YAML.

    Returns:
        The recipe, with all defaults filled in.

    Raises:
        UserError: All faults at once, one line each: `path:line: dotted.field: what is wrong (value); cure`.
    """
    source = RawRecipe(Path(path))
    for text in overrides:
        source.override(text)
    for section in ("data", "train", "evals"):  # a heading with nothing below it
        if section in source.data and source.data[section] is None:
            source.data[section] = {}
    folder = Path(path).resolve().parent
    axes = extract_axes(source, folder)
    recipe = validate(source, Recipe, {**source.data, "variants": {}}, ())
    variants = attach_axes(source, axes, _variants(source, folder), partial(_variant, source, folder=folder))
    if isinstance(common := source.data.get("reference"), str) and not _is_model(common):
        source.fault(("reference",), f"must be a model (is {messages.format_value(common)}); {messages.REFERENCE_CURE}")
    variants = variants if recipe is None else in_rounds(source, recipe, variants)
    source.raise_faults()
    assert recipe is not None  # otherwise a fault was raised
    recipe = recipe.model_copy(update={"variants": variants, "seed": [*recipe.seeds, recipe.seed][0]})
    recipe._folder = folder
    return recipe


def _variants(source: RawRecipe, folder: Path) -> dict[str, Variant]:
    raw = source.data.get("variants")
    if not raw:
        source.fault(("variants",), "is missing or empty; name at least one, like `variants: {dpo: {beta: 0.1}}`")
    elif not isinstance(raw, dict):
        source.fault(("variants",), "must be a mapping of names; like `variants: {dpo: {beta: 0.1}, ipo: null}`")
    else:
        variants = {name: _variant(source, name, fields, folder) for name, fields in raw.items()}
        return {name: variant for name, variant in variants.items() if variant is not None}
    return {}


def _variant(source: RawRecipe, name: str, fields: Any, folder: Path) -> Variant | None:
    keys = ("variants", name)
    if name == BASE:
        source.fault(keys, f"{BASE!r} is the untrained model; choose another name, and name the loss by `loss:`")
    elif not re.fullmatch(SLUG, name):
        source.fault(keys, messages.invalid_name(name))
    if not isinstance(fields, dict | None):
        source.fault(
            keys,
            f"must be a mapping (is {messages.format_value(fields)}); like `{{beta: 0.1}}`, or nothing for defaults",
        )
        return None
    knobs = dict(fields or {})
    spec, partial = knobs.pop("loss", name), knobs.pop("train", None)
    own = {"reference": knobs.pop("reference")} if "reference" in knobs else {}
    listed = modifiers.as_entries(knobs.pop(modifiers.FIELD, None))
    train = _merged_train(source, (*keys, "train"), partial)
    loss = _loss(source, keys, spec, folder)
    params = knobs_of(source, keys, loss, knobs, listed, folder) if loss else None
    if train is None or params is None or loss is None:
        return None
    reference = _reference(source, keys, own, losses.as_listed(loss, params, folder), train)
    return Variant(name=name, loss=spec, params=params, train=train, folder=folder, reference=reference)


def _reference(source: RawRecipe, keys: Keys, own: dict[str, Any], loss: AnyLoss, train: Train) -> str | None:
    """Return the variant's reference, else the recipe's; None where its loss reads none, or nothing names one."""
    at, reads = (*keys, "reference"), loss.needs_reference or loss.needs_kl
    if own and not _is_model(own["reference"]):
        source.fault(at, f"must be a model (is {messages.format_value(own['reference'])}); {messages.REFERENCE_CURE}")
        return None
    if own and not reads:
        source.fault(at, f"has no effect, because {loss.name} reads no reference; leave it out")
    common = source.data.get("reference")
    reference = own.get("reference", common if _is_model(common) else None)
    if not reads or reference is None:
        return None
    if train.sync_reference is not None and reference != source.data.get("model"):
        source.fault(
            at if own else (*keys, "train", "sync_reference"),
            f"the reference {reference} does not move, and train.sync_reference moves one that starts from the model; "
            "leave out one of them",
        )
    return str(reference)


def _is_model(value: Any) -> bool:
    return isinstance(value, str) and value.lower() not in NO_MODEL


def _loss(source: RawRecipe, keys: Keys, spec: Any, folder: Path) -> Loss | Sum | None:
    if not isinstance(spec, str):
        source.fault((*keys, "loss"), f"must be text (is {messages.format_value(spec)}); `prefzoo losses` lists all")
        return None
    given = spec != keys[-1] or (*keys, "loss") in source.places
    try:
        loss = losses.get(spec, folder)
        loss.Params  # noqa: B018 - built from the annotations, which may be wrong in a plug-in
        return loss
    except UserError as e:
        implied = "" if given else " (a variant without `loss:` is named after its loss)"
        source.fault((*keys, "loss") if given else keys, e.lines[0] + implied, e.hint)
    except Exception as e:  # a plug-in module runs the user's code, which may raise anything
        reason = f"loss {spec!r} fails to load: {describe_error(e)}; fix it there"
        source.fault((*keys, "loss"), reason, losses.TEMPLATE)
    return None


def _merged_train(source: RawRecipe, keys: Keys, partial: Any) -> Train | None:
    """Merge a variant's own `train` into the recipe's; faults of the latter are reported only there."""
    if not isinstance(partial, dict | None):
        source.fault(keys, f"must be a mapping (is {messages.format_value(partial)}); like `{{learning_rate: 1e-5}}`")
        return None
    partial = dict(partial or {})
    if partial.pop("trackers", None) is not None:
        source.fault((*keys, "trackers"), "trackers follow the whole run; set train.trackers at the top")
    common = source.data.get("train")
    merged = _over(common if isinstance(common, dict) else {}, partial)
    reported = {at for _, at, _ in source.faults}
    try:
        return Train.model_validate(merged)
    except ValidationError as e:
        for error in e.errors(include_url=False):
            loc = messages.error_keys(error)
            if _has(partial, loc) or ("train", *loc) not in reported:
                source.fault((*keys, *loc), messages.describe_error(Train, error))
    return None


def _over(under: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    both = {k: _over(under[k], v) for k, v in top.items() if isinstance(v, dict) and isinstance(under.get(k), dict)}
    return {**under, **top, **both}


def _has(value: Any, loc: Keys) -> bool:
    return not loc or (isinstance(value, dict) and loc[0] in value and _has(value[loc[0]], loc[1:]))
