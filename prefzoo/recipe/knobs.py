"""Check the knobs of losses and modifiers, and report faults at their place."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from prefzoo.losses import AnyLoss, Loss, Modifier, Params, Sum
from prefzoo.recipe import messages, modifiers
from prefzoo.recipe.judge import as_written
from prefzoo.recipe.sections import Train
from prefzoo.recipe.yaml import Keys, Reporter

Model = TypeVar("Model", bound=BaseModel)


def knobs_of(
    source: Reporter, keys: Keys, loss: Loss | Sum, knobs: dict[str, Any], listed: Any, folder: Any
) -> Params | None:
    """Return the knobs of a loss and of its modifiers, or None after reporting faults.

    Args:
        source: Takes the faults.
        keys: Where the knobs stand.
        loss: The loss, without modifiers.
        knobs: Its knobs.
        listed: Its modifiers, as `modifiers.as_entries` returns them.
        folder: Where the paths of files start.

    Returns:
        An instance of the loss's `Params`, or of the modified loss's.
    """
    at = (*keys, modifiers.FIELD)
    entries = modifiers.check_entries(source, at, listed)
    own = validate(source, loss.Params, knobs, keys, loss)
    if not entries:
        return own if entries is not None else None
    changed = modifiers.modified(source, at, loss, entries, folder)
    if changed is None:
        return None
    checked = [
        validate(source, one.Params, entry[spec], (*at, str(i), spec), one)
        for i, ((spec, one), entry) in enumerate(zip(changed.steps, entries, strict=True))
    ]
    if own is None or None in checked:
        return None
    return changed.Params.model_validate({**knobs, modifiers.FIELD: entries})


def validate(
    source: Reporter, model: type[Model], value: Any, keys: Keys, loss: AnyLoss | Modifier | None = None
) -> Model | None:
    """Return a value as a model, or None after reporting faults.

    Args:
        source: Takes the faults.
        model: The model.
        value: The value, in plain types.
        keys: Where it stands.
        loss: The loss or modifier whose knobs it has, if any.

    Returns:
        An instance of the model.
    """
    try:
        return model.model_validate(value)
    except ValidationError as e:
        for error in e.errors(include_url=False):
            loc = messages.error_keys(error)
            if loss is not None and loc[-1] in Train.model_fields and error["type"] == "extra_forbidden":
                source.fault(
                    (*keys, *loc), f"no such parameter of {loss.name}; it belongs under the variant's `train:`"
                )
            else:
                source.fault((*keys, *as_written(loc, value)), messages.describe_error(model, error, loss))
    return None
