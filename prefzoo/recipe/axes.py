"""Grids and ranges in a recipe's text: found, taken out, checked value by value. What becomes of them: sweep.py."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from prefzoo import losses
from prefzoo.losses import paper_grid
from prefzoo.recipe import messages
from prefzoo.recipe.yaml import Keys, Source

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
    """What one setting of a variant may be: one of `values`, or anything between `low` and `high`.

    Attributes:
        path: the keys that lead to it within the variant.
        scale: `log` or `uniform` for a range, None for values.
        source: where a ready-made grid comes from; empty for the recipe's own.
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
        """As a recipe writes it."""
        return {self.scale: [self.low, self.high]} if self.scale else list(self.values)

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that stand for all: each, or both ends."""
        return (self.low, self.high) if self.scale else self.values


class Halving(BaseModel):
    """Early stopping of hopeless trials by the rungs of ASHA (Li 2020, arXiv:1810.05934).

    At each rung the best 1/`factor` of a variant's settings train on. A rung is decided when all have reached it, so
    that no decision depends on which machine was faster; and within a variant alone, so that budgets stay equal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    factor: Annotated[int, Field(ge=2)] = 3
    rungs: Annotated[int, Field(ge=1, le=8)] = 1


class Sweep(BaseModel):
    """How variants are tuned: `trials` settings each, chosen by accuracy on `validation` alone.

    Attributes:
        trials: settings tried per variant; a larger grid is thinned to them. None: whole grids.
        validation: share of the training prompts that is held out of training, or pairs of their own.
        search_seeds: how many of the recipe's seeds every setting is trained with; None: all.
        unequal_budgets: what happens where variants have different numbers of settings.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    trials: Annotated[int, Field(gt=0)] | None = None
    validation: Annotated[float | str, BeforeValidator(_check_validation)] = 0.1
    search_seeds: Annotated[int, Field(gt=0)] | None = None
    early_stopping: Halving | None = None
    unequal_budgets: Literal["refuse", "flag"] = "refuse"


def extract_axes(source: Source, folder: Path) -> dict[str, tuple[Axis, ...]]:
    """Each variant's axes, from its own text, `sweep: paper`, and `train` above; their first values stay in place."""
    _check_seeds(source)
    common = list(_taken(source, ("train",), source.data.get("train"), ("train",)))
    variants = source.data.get("variants")
    if not isinstance(variants, dict):
        return {}
    found: dict[str, tuple[Axis, ...]] = {}
    for name, fields in variants.items():
        if not isinstance(fields, dict | None):
            continue
        plain = dict(fields or {})
        own = list(_taken(source, ("variants", name), plain, ()))
        if "sweep" in plain:
            own += _ready(source, name, plain, plain.pop("sweep"), folder, {axis.path for axis in own})
        taken = {axis.path for axis in own}
        own += [a for a in common if a.path not in taken and not _written(plain, a.path)]
        found[name] = tuple(sorted(own, key=lambda axis: (axis.path[0] == "train", axis.path)))
        if fields is not None:
            variants[name] = plain
    return found


def _taken(source: Source, keys: Keys, value: Any, path: Keys) -> Iterator[Axis]:
    """The axes below `value`, a mapping, each replaced by its first value."""
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        at, here = (*keys, key), (*path, key)
        if isinstance(inner, list) and len(inner) > 1 and here not in LISTS:
            if len({repr(v) for v in inner}) < len(inner):
                source.fault(at, "has a value twice; keep one of each")
            else:
                yield Axis(path=here, values=tuple(inner))
            value[key] = inner[0]
        elif isinstance(inner, dict) and any(scale in inner for scale in SCALES):
            axis = _range(source, at, here, inner)
            value[key] = axis.low if axis else None
            source.unread |= set() if axis else {at}  # what is wrong with it has been said
            if axis:
                yield axis
        elif isinstance(inner, dict):
            value[key] = below = dict(inner)
            yield from _taken(source, at, below, here)


def _range(source: Source, keys: Keys, path: Keys, value: dict[str, Any]) -> Axis | None:
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


def _ready(
    source: Source, name: str, fields: dict[str, Any], ready: Any, folder: Path, own: set[tuple[str, ...]]
) -> list[Axis]:
    """The axes of `sweep: paper` that the variant does not set itself."""
    if ready != PAPER:
        source.fault(
            ("variants", name, "sweep"), f"must be {PAPER} (is {messages.format_value(ready)}); or write lists"
        )
        return []
    try:
        loss = losses.get(fields.get("loss", name), folder)
    except Exception:  # what is wrong with the loss is said where it is read
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
        if not isinstance(fields, dict) or key not in fields:
            return False
        fields = fields[key]
    return True


def set_at_path(plain: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set what `path` leads to, making mappings on the way."""
    for key in path[:-1]:
        plain[key] = dict(plain.get(key) or {})
        plain = plain[key]
    plain[path[-1]] = value


def variant_to_plain(variant: Any) -> dict[str, Any]:
    """A variant's plain values with its axes as a recipe writes them."""
    plain = {
        "loss": variant.loss,
        "train": variant.train.model_dump(exclude={"trackers"}),
        **variant.params.model_dump(),
    }
    for axis in variant.axes:
        set_at_path(plain, axis.path, axis.plain)
    return plain


Made = TypeVar("Made", bound=BaseModel)


def attach_axes(
    source: Source, axes: Mapping[str, tuple[Axis, ...]], made: dict[str, Made], make: Callable[[str, Any], Made | None]
) -> dict[str, Made]:
    """The variants with their axes, after each value was tried in its place by `make`."""
    for name, found in axes.items():
        for axis in found:
            for value in axis.samples[0 if axis.scale else 1 :]:
                fields = copy.deepcopy(source.data["variants"][name] or {})
                set_at_path(fields, axis.path, value)
                make(name, fields)
    ranged = [name for name, found in axes.items() if any(axis.scale for axis in found)]
    how = source.data.get("sweep")
    if ranged and not (isinstance(how, dict) and how.get("trials")):
        source.fault(("variants", ranged[0]), "a range needs a number of trials; add sweep: {trials: 8}")
    return {name: one.model_copy(update={"axes": axes.get(name, ())}) for name, one in made.items()}


def _check_seeds(source: Source) -> None:
    """Complain about `seeds` beside another `seed`, or one of them twice."""
    seeds, seed = source.data.get("seeds"), source.data.get("seed")
    if isinstance(seeds, list) and seeds:
        if len({repr(one) for one in seeds}) < len(seeds):
            source.fault(("seeds",), "has a seed twice; keep one of each")
        if seed is not None and seed != seeds[0]:
            source.fault(
                ("seeds",), f"begins with {messages.format_value(seeds[0])}, and seed is {seed}; leave out seed"
            )
