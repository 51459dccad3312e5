"""Read grids and ranges from a recipe: find them, take them out, and check each of their values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from prefzoo import losses
from prefzoo.losses import AnyLoss, paper_grid
from prefzoo.recipe import messages, modifiers
from prefzoo.recipe.yaml import Keys, RawRecipe

SCALES = ("log", "uniform")
LISTS = (("train", "lora", "targets"), ("train", "trackers"))  # fields whose value is a list
PAPER = "paper"
ENDS = 2


def _check_validation(value: Any) -> Any:
    if (isinstance(value, float) and 0 < value < 1) or (isinstance(value, str) and value):
        return value
    raise PydanticCustomError(
        "validation",
        "must be a share of the training prompts between 0 and 1, or a data set (is {shown}); like 0.1",
        {"shown": repr(value)},
    )


class Axis(BaseModel):
    """The values that one setting of a variant may take: a list, or a range from `low` to `high`.

    Attributes:
        path: The keys that lead to the setting within the variant.
        values: The values of a grid; empty for a range.
        scale: `log` or `uniform` for a range, None for a grid.
        low: Lower end of a range.
        high: Upper end of a range.
        source: Where a published grid comes from; empty for the recipe's own.
    """

    model_config = ConfigDict(frozen=True)
    path: tuple[str, ...]
    values: tuple[Any, ...] = ()
    scale: Literal["log", "uniform"] | None = None
    low: float = 0.0
    high: float = 0.0
    source: str = ""

    @property
    def plain(self) -> Any:
        """The axis as a recipe writes it."""
        return {self.scale: [self.low, self.high]} if self.scale else list(self.values)

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values to check: all of a grid, or both ends of a range."""
        return (self.low, self.high) if self.scale else self.values


class Halving(BaseModel):
    """Early stopping of weak trials, at the rungs of ASHA (Li 2020, arXiv:1810.05934).

    At each rung the best 1/`factor` of a variant's settings continue. A rung is decided once all settings have reached
    it, so that the outcome does not depend on the speed of machines. Each variant is decided separately, so that all
    variants have the same budget.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    factor: Annotated[int, Field(ge=2)] = 3
    rungs: Annotated[int, Field(ge=1, le=8)] = 1


class Sweep(BaseModel):
    """How variants are tuned: by preference accuracy on validation pairs, never on held-out pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    trials: Annotated[int, Field(gt=0)] | None = None
    validation: Annotated[float | str, BeforeValidator(_check_validation)] = 0.1
    search_seeds: Annotated[int, Field(gt=0)] | None = None
    early_stopping: Halving | None = None
    unequal_budgets: Literal["refuse", "flag"] = "refuse"


def extract_axes(source: RawRecipe, folder: Path) -> dict[str, tuple[Axis, ...]]:
    """Take the axes out of a recipe, leaving the first value of each in its place.

    Args:
        source: The recipe's text; it is changed, and faults are added to it.
        folder: Where paths of losses in files start.

    Returns:
        Each variant's axes: its own, those of `sweep: paper`, and those of the recipe's `train`.
    """
    _check_seeds(source)
    common = list(_take_axes(source, ("train",), source.data.get("train"), ("train",)))
    if "reference" in source.data:
        top = {"reference": source.data["reference"]}
        common += _take_axes(source, (), top, ())
        source.data |= top
    variants = source.data.get("variants")
    if not isinstance(variants, dict):
        return {}
    axes: dict[str, tuple[Axis, ...]] = {}
    for name, fields in variants.items():
        if not isinstance(fields, dict | None):
            continue
        plain = dict(fields or {})
        own = list(_take_axes(source, ("variants", name), plain, ()))
        if "sweep" in plain:
            own += _published(source, name, plain, plain.pop("sweep"), folder, {axis.path for axis in own})
        taken = {axis.path for axis in own}
        own += [a for a in common if a.path not in taken and not _written(plain, a.path)]
        axes[name] = tuple(sorted(own, key=lambda axis: (axis.path[0] == "train", axis.path)))
        if fields is not None:
            variants[name] = plain
    return axes


def _take_axes(source: RawRecipe, keys: Keys, value: Any, path: Keys) -> Iterator[Axis]:
    """Yield the axes in a mapping and below it, replacing each by its first value."""
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        at, here = (*keys, key), (*path, key)
        if here == (modifiers.FIELD,):
            value[key] = modifiers.as_entries(inner)
            yield from _axes_of_modifiers(source, at, value[key], here)
        elif isinstance(inner, list) and len(inner) > 1 and here not in LISTS:
            if len({repr(v) for v in inner}) < len(inner):
                source.fault(at, "has a value twice; keep one of each")
            else:
                yield Axis(path=here, values=tuple(inner))
            value[key] = inner[0]
        elif isinstance(inner, dict) and any(scale in inner for scale in SCALES):
            axis = _range(source, at, here, inner)
            value[key] = axis.low if axis else None
            source.unread |= set() if axis else {at}  # its fault is reported already
            if axis:
                yield axis
        elif isinstance(inner, dict):
            value[key] = below = dict(inner)
            yield from _take_axes(source, at, below, here)


def _axes_of_modifiers(source: RawRecipe, keys: Keys, entries: Any, path: Keys) -> Iterator[Axis]:
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        for spec, knobs in entry.items() if isinstance(entry, dict) else ():
            yield from _take_axes(source, (*keys, str(i), spec), knobs, (*path, modifiers.short_name(spec)))


def _range(source: RawRecipe, keys: Keys, path: Keys, value: dict[str, Any]) -> Axis | None:
    scale, ends = next(iter(value.items()))
    numbers = isinstance(ends, list) and len(ends) == ENDS and all(type(v) in (int, float) for v in ends)
    if len(value) != 1 or not numbers:
        source.fault(keys, f"a range has one scale and two ends (is {value!r:.60}); like {{log: [1e-7, 1e-5]}}")
    elif not (ends[0] < ends[1] and (scale != "log" or ends[0] > 0)):
        need = "0 < first < second" if scale == "log" else "first < second"
        source.fault(keys, f"the ends of a {scale} range need {need} (are {ends[0]}, {ends[1]})")
    else:
        return Axis(path=path, scale=scale, low=float(ends[0]), high=float(ends[1]))  # type: ignore[arg-type]
    return None


def _published(
    source: RawRecipe, name: str, fields: dict[str, Any], ready: Any, folder: Path, own: set[tuple[str, ...]]
) -> list[Axis]:
    """Return the axes of `sweep: paper` that the variant does not set itself."""
    if ready != PAPER:
        source.fault(
            ("variants", name, "sweep"), f"must be {PAPER} (is {messages.format_value(ready)}); or write lists"
        )
        return []
    try:
        loss: AnyLoss = losses.get(fields.get("loss", name), folder)
        specs = [spec for entry in fields.get(modifiers.FIELD) or () for spec in entry]
        loss = losses.modify(losses.get(fields.get("loss", name), folder), specs, folder) if specs else loss
    except Exception:  # the fault is reported where the loss is read
        return []
    grid = paper_grid(loss)
    rates = {"train.learning_rate": grid.learning_rate}
    axes = [Axis(path=tuple(k.split(".")), values=v, source=grid.source) for k, v in (grid.knobs | rates).items() if v]
    axes = [axis for axis in axes if axis.path not in own and not _written(fields, axis.path)]
    for axis in axes:
        set_at_path(fields, axis.path, axis.values[0])
    return [axis for axis in axes if len(axis.values) > 1]


def _written(fields: Any, path: Keys) -> bool:
    for key in path:
        if isinstance(fields, list):
            fields = modifiers.knobs_of(fields, key)
            continue
        if not isinstance(fields, dict) or key not in fields:
            return False
        fields = fields[key]
    return True


def set_at_path(plain: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a value in nested mappings, creating mappings on the way; in a list of modifiers a key is one's name.

    Args:
        plain: The outermost mapping.
        path: The keys that lead to the value.
        value: The value.
    """
    for i, key in enumerate(path[:-1]):
        if isinstance(plain.get(key), list):
            plain[key] = modifiers.as_entries(plain[key])
            set_at_path(modifiers.knobs_of(plain[key], path[i + 1]), path[i + 2 :], value)
            return
        plain[key] = dict(plain.get(key) or {})
        plain = plain[key]
    plain[path[-1]] = value


def variant_to_plain(variant: Any) -> dict[str, Any]:
    """Return a variant as plain values, with its axes as a recipe writes them."""
    plain = {
        "loss": variant.loss,
        "train": variant.train.model_dump(exclude={"trackers"}),
        **variant.params.model_dump(),
    }
    if variant.reference is not None:
        plain["reference"] = variant.reference
    for axis in variant.axes:
        set_at_path(plain, axis.path, axis.plain)
    return plain


Model = TypeVar("Model", bound=BaseModel)


def attach_axes(
    source: RawRecipe,
    axes: Mapping[str, tuple[Axis, ...]],
    variants: dict[str, Model],
    make: Callable[[str, Any], Model | None],
) -> dict[str, Model]:
    """Add their axes to the variants, after checking each value in its place.

    Args:
        source: The recipe's text, to which faults are added.
        axes: Each variant's axes, as `extract_axes` returns them.
        variants: The variants with the first value of each axis.
        make: Builds a variant from its name and fields, and adds faults to `source`.

    Returns:
        The variants with their axes.
    """
    axes = {name: _useful(own, variants.get(name)) for name, own in axes.items()}
    for name, own in axes.items():
        for axis in own:
            for value in axis.samples[0 if axis.scale else 1 :]:
                fields = copy.deepcopy(source.data["variants"][name] or {})
                set_at_path(fields, axis.path, value)
                make(name, fields)
    ranged = [name for name, own in axes.items() if any(axis.scale for axis in own)]
    sweep = source.data.get("sweep")
    if ranged and not (isinstance(sweep, dict) and sweep.get("trials")):
        source.fault(("variants", ranged[0]), "a range needs a number of trials; add sweep: {trials: 8}")
    return {name: one.model_copy(update={"axes": axes.get(name, ())}) for name, one in variants.items()}


def _useful(axes: Sequence[Axis], variant: Any) -> tuple[Axis, ...]:
    """Return a variant's axes, without those of the reference if its loss reads none."""
    return tuple(a for a in axes if a.path != ("reference",) or getattr(variant, "reference", None) is not None)


def _check_seeds(source: RawRecipe) -> None:
    """Add a fault if a seed occurs twice, or if `seed` is not the first of `seeds`."""
    seeds, seed = source.data.get("seeds"), source.data.get("seed")
    if isinstance(seeds, list) and seeds:
        if len({repr(one) for one in seeds}) < len(seeds):
            source.fault(("seeds",), "has a seed twice; keep one of each")
        if seed is not None and seed != seeds[0]:
            source.fault(
                ("seeds",), f"begins with {messages.format_value(seeds[0])}, and seed is {seed}; leave out seed"
            )
