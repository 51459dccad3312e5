"""The base of all models of knobs, and the check of published grids against them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError


class Params(BaseModel):
    """The knobs of one loss: strict types, no unknown keys. Each loss gets its own subclass from its signature."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


def check_grid(owner: str, knobs: type[Params], grid: Mapping[str, tuple[float, ...]]) -> None:
    """Check that a grid names knobs and gives them valid values.

    Args:
        owner: The loss or modifier, for messages, like `loss dpo`.
        knobs: The model of the knobs.
        grid: Values of some knobs.

    Raises:
        ValueError: A knob does not exist or a value is invalid; the message names the knob.
    """
    for knob, values in grid.items():
        if knob not in knobs.model_fields:
            raise ValueError(f"{owner}: grid names {knob!r}, which is not one of its knobs")
        for value in values:
            try:
                knobs(**{knob: value})
            except ValidationError as e:
                raise ValueError(f"{owner}: grid of {knob} has {value}: {e.errors()[0]['msg']}") from e
