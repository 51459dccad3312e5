"""Read `train.pair_weights`: a column of the training data with each row's weight in the mean loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prefzoo.data.faults import Faults
from prefzoo.data.reading import DataSource
from prefzoo.data.sources import iterate_rows
from prefzoo.data.tokens import TokenExample
from prefzoo.errors import UserError, did_you_mean
from prefzoo.experiment.data import source_of
from prefzoo.experiment.search import Trial
from prefzoo.recipe.load import Recipe


def read_pair_weights(recipe: Recipe, trials: Sequence[Trial], pairs: Sequence[TokenExample]) -> Mapping[str, Tensor]:
    """Read the columns that trials weigh their rows by.

    Args:
        recipe: names the training data.
        trials: all of the recipe's.
        pairs: the training rows.

    Returns:
        By column, (P,) weights of the rows in fp32, divided by their mean: a column of equal numbers changes nothing.

    Raises:
        UserError: a loss couples the rows of a step, so that no row has its own part in the mean; there are several
            data sets; or the column has a missing or negative number, or only zeros.
    """
    columns: dict[str, str] = {}
    for trial in trials:
        column = trial.variant.train.pair_weights
        if column is None:
            continue
        place = f"variants.{trial.arm}.train.pair_weights"
        columns.setdefault(column, place)
        if trial.variant.loss_obj.couples:
            raise UserError(
                f"{place}: {trial.variant.loss_obj.name} compares the rows of a step with each other, so no row has "
                "its own loss to weigh; leave it out"
            )
    if not columns:
        return {}
    source = source_of(recipe, recipe.data.train)
    if not isinstance(source, DataSource):
        raise UserError(
            f"{next(iter(columns.values()))}: reads a column of one data set, and data.train has several; give these "
            "a weight, or join them in a file"
        )
    rows = list(iterate_rows(source.address, recipe.folder, Faults(source.spec, source.on_bad_row)))
    return {column: _weights(rows, column, place, source.spec, pairs) for column, place in columns.items()}


def _weights(rows: Sequence[Any], column: str, place: str, spec: str, pairs: Sequence[TokenExample]) -> Tensor:
    present = dict.fromkeys(str(name) for row in rows for name in row)
    if column not in present:
        hint = did_you_mean(column, list(present)) or f"; there are {', '.join(present)}"
        raise UserError(f"{place}: no row of {spec} has a column {column!r}{hint}")
    values = [rows[example.row].get(column) for example in pairs]
    for example, value in zip(pairs, values, strict=True):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise UserError(
                f"{place}: row {example.row + 1} of {spec} has {value!r} in the column {column!r}; a weight is a "
                "number of 0 or more"
            )
    weights = torch.tensor(values, dtype=torch.float64)
    if not weights.sum() > 0:
        raise UserError(f"{place}: the column {column!r} of {spec} is 0 in all rows; leave it out")
    return (weights / weights.mean()).float()
