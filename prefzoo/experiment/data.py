"""What several commands read first: a recipe's data, tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.data.audit import Audit, summarise
from prefzoo.data.rows import Row
from prefzoo.data.schemas import normalise
from prefzoo.data.sources import read_rows
from prefzoo.data.tokens import TokenExample, Tokenised, TokenPair, tokenise
from prefzoo.errors import UserError
from prefzoo.recipe.load import Recipe
from prefzoo.training.loss_inputs import check_fit


def rows_of(recipe: Recipe, spec: str) -> list[Row]:
    """The rows of a data set of the recipe, columns renamed."""
    return read_rows(spec, recipe.folder, {str(k): v for k, v in recipe.data.columns.items()})


def unit(pairs: Sequence[TokenExample]) -> str:
    """What the rows of a data set are."""
    return "pairs" if isinstance(pairs[0], TokenPair) else "answers"


def check_variants(recipe: Recipe, pairs: Sequence[TokenExample]) -> None:
    """Whether the training data can feed every variant.

    Raises:
        UserError: what `check_fit` says, of all variants at once.
    """
    faults: list[str] = []
    for name, variant in recipe.variants.items():
        try:
            check_fit(variant.loss_obj, pairs, variant.train.batch, f"variants.{name}")
        except UserError as e:
            faults += e.lines
    if faults:
        raise UserError(faults)


def tokens_of(recipe: Recipe, spec: str, tokenizer: Any) -> tuple[Tokenised[TokenExample], str]:
    """Token ids of a data set, and what schema it has."""
    done, found = audited(recipe, spec, tokenizer)
    return done, found.schema


def audited(recipe: Recipe, spec: str, tokenizer: Any) -> tuple[Tokenised[TokenExample], Audit]:
    """Token ids of a data set, and its audit."""
    rows = rows_of(recipe, spec)
    pairs = normalise(rows, spec)
    done = tokenise(pairs, tokenizer, recipe.data.max_length, recipe.data.too_long, spec)
    return done, summarise(spec, rows, pairs, done, tokenizer)
