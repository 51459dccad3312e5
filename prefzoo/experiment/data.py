"""A recipe's data, tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.data.audit import Audit, summarise, with_all_counts
from prefzoo.data.faults import BadRow
from prefzoo.data.reading import DataSource, read_source
from prefzoo.data.tokenising import Reading, tokenise
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


def source_of(recipe: Recipe, spec: str) -> DataSource:
    """Return a data set with what the recipe says on how to read it."""
    data = recipe.data
    return DataSource(spec, {str(k): v for k, v in data.columns.items()}, data.format, data.on_bad_row)


def reading_of(recipe: Recipe) -> Reading:
    """Return what the recipe says on how conversations are read."""
    return Reading(recipe.data.score, recipe.data.chat_template_kwargs)


def audited(recipe: Recipe, spec: str, tokenizer: Any) -> tuple[Tokenised[TokenExample], Audit, list[BadRow]]:
    """Tokenise a data set, and audit it.

    Args:
        recipe: says how to read it, and gives the maximal length.
        spec: the data set, as `data.train` names one.
        tokenizer: the model's.

    Returns:
        The tokenised rows, the audit, and the rows that were left out.
    """
    data, faults = read_source(source_of(recipe, spec), recipe.folder, turns=bool(tokenizer.chat_template))
    tokens = tokenise(
        data.examples, tokenizer, recipe.data.max_length, recipe.data.too_long, spec, reading=reading_of(recipe),
        faults=faults,
    )  # fmt: skip
    tokens = with_all_counts(tokens, data, faults)
    return tokens, summarise(spec, data, tokens, tokenizer), faults.rows
