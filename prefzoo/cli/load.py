"""What several commands read first: a recipe's data, tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.data.schemas import normalise, schema
from prefzoo.data.sources import Row, read_rows
from prefzoo.data.tokens import Tokenised, TokenPair, tokenise
from prefzoo.recipe import Recipe


def rows_of(recipe: Recipe, spec: str) -> list[Row]:
    """The rows of a data set of the recipe, columns renamed."""
    return read_rows(spec, recipe.folder, {str(k): v for k, v in recipe.data.columns.items()})


def unit(pairs: Sequence[TokenPair]) -> str:
    """What the rows of a data set are."""
    return "pairs" if pairs[0].label is None else "answers"


def tokens_of(recipe: Recipe, spec: str, tokenizer: Any) -> tuple[Tokenised, str]:
    """Token ids of a data set, and what schema it has."""
    rows = rows_of(recipe, spec)
    pairs = normalise(rows, spec)
    return tokenise(pairs, tokenizer, recipe.data.max_length, recipe.data.too_long, spec), schema(rows)
