"""A recipe's data, tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.data.audit import Audit, summarise
from prefzoo.data.schemas import normalise
from prefzoo.data.sources import read_rows
from prefzoo.data.tokenising import tokenise
from prefzoo.data.tokens import TokenExample, Tokenised, TokenPair
from prefzoo.errors import UserError
from prefzoo.recipe.load import Recipe
from prefzoo.training.loss_inputs import check_fit


def unit(pairs: Sequence[TokenExample]) -> str:
    """Return what the rows of a data set are called: pairs, or answers."""
    return "pairs" if isinstance(pairs[0], TokenPair) else "answers"


def check_variants(recipe: Recipe, pairs: Sequence[TokenExample]) -> None:
    """Check that the training data has what every variant needs.

    Raises:
        UserError: it has not; a line for each variant.
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
    """Tokenise a data set.

    Args:
        recipe: gives maximal length and column names.
        spec: the data set, as `data.train` names one.
        tokenizer: the model's.

    Returns:
        The tokenised rows, and the name of their schema.
    """
    tokens, audit = audited(recipe, spec, tokenizer)
    return tokens, audit.schema


def audited(recipe: Recipe, spec: str, tokenizer: Any) -> tuple[Tokenised[TokenExample], Audit]:
    """Tokenise a data set, and audit it.

    Args:
        recipe: gives maximal length and column names.
        spec: the data set, as `data.train` names one.
        tokenizer: the model's.

    Returns:
        The tokenised rows, and the audit.
    """
    rows = read_rows(spec, recipe.folder, {str(k): v for k, v in recipe.data.columns.items()})
    pairs = normalise(rows, spec)
    tokens = tokenise(pairs, tokenizer, recipe.data.max_length, recipe.data.too_long, spec)
    return tokens, summarise(spec, rows, pairs, tokens, tokenizer)
