"""Find the grid that a loss is tuned over with `sweep: paper`, and where it comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from prefzoo.losses._loss import AnyLoss, Loss
from prefzoo.losses._modified import FIELD, Modified
from prefzoo.losses._sum import Sum

SPREAD = (0.2, 1.0, 5.0)  # of the default grid: a default value is right to within a factor of about five
ABOUT_GRIDS = re.compile(r"(?:[^.]|\.(?=\d))*\bgrid\b(?:[^.]|\.(?=\d))*\.")


@dataclass(frozen=True)
class PaperGrid:
    """A grid for tuning a loss.

    Attributes:
        knobs: Values of each knob; `term.knob` names a knob of a sum's term, `modifiers.name.knob` one of a modifier.
        learning_rate: Published learning rates; if empty, the recipe's is used.
        source: Where the values come from, in words.
        stated: Whether the values were published. Otherwise this is the default grid: one fifth, once and five times
            the default of the loss's first knob (or its published value, if there is only one).
    """

    knobs: dict[str, tuple[Any, ...]]
    learning_rate: tuple[float, ...]
    source: str
    stated: bool


def paper_grid(loss: AnyLoss) -> PaperGrid:
    """Return the published grid of a loss, or the default one; for a sum, the knobs of all terms and no rates.

    Raises:
        TypeError: The object is neither a loss nor a sum of losses.
    """
    if isinstance(loss, Sum):
        parts = [(term.name, paper_grid(term)) for _, term in loss.terms]
        knobs = {f"{name}.{knob}": values for name, grid in parts for knob, values in grid.knobs.items()}
        source = "; ".join(f"{name}: {grid.source}" for name, grid in parts)
        return PaperGrid(knobs, (), source, all(grid.stated for _, grid in parts))
    if isinstance(loss, Modified):
        grid = paper_grid(loss.loss)
        names = [(f"{FIELD}.{spec.rpartition(':')[2]}", one) for spec, one in loss.steps]
        own = {f"{name}.{knob}": tuple(values) for name, one in names for knob, values in one.grid.items()}
        sources = [grid.source, *(f"{one.name}: {one.paper}" for one in loss.modifiers if one.grid and one.paper)]
        return replace(grid, knobs=grid.knobs | own, source="; ".join(sources))
    if not isinstance(loss, Loss):
        raise TypeError(f"{type(loss).__name__} is not a loss with published settings")
    knobs = {knob: tuple(values) for knob, values in loss.grid.items()}
    stated = any(len(values) > 1 for values in knobs.values()) or (not loss.Params.model_fields and loss.learning_rate)
    if stated:
        about = ABOUT_GRIDS.search(" ".join(loss.doc.split()))
        return PaperGrid(knobs, loss.learning_rate, loss.paper + (f";{about.group()}" if about else ""), True)
    default = _default(loss, knobs)
    source = (
        f"default grid; no published values were read in {loss.paper}"
        if loss.paper
        else "default grid, around the default values"
    )
    return PaperGrid(knobs | default, loss.learning_rate, source, False)


def _default(loss: Loss, published: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Return values around the default of the first positive knob."""
    for name, field in loss.Params.model_fields.items():
        middle = published.get(name, (field.default,))[0]
        if field.annotation is float and middle > 0:
            return {name: tuple(v for v in (float(f"{middle * s:.6g}") for s in SPREAD) if _accepts(loss, name, v))}
    return {}


def _accepts(loss: Loss, knob: str, value: float) -> bool:
    try:
        loss.Params(**{knob: value})
    except ValidationError:
        return False
    return True
