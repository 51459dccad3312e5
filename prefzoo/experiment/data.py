"""A recipe's data, tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console

from prefzoo.data.audit import AuditedData, read_and_audit
from prefzoo.data.audits.examine import TestedOn
from prefzoo.data.audits.texts import spoken
from prefzoo.data.examples import Example
from prefzoo.data.reading import DataSource, Mixture, read_source
from prefzoo.data.rows import Row
from prefzoo.data.token_cache import CHUNK
from prefzoo.data.tokenising import Reading
from prefzoo.data.tokens import TokenExample, TokenPair
from prefzoo.errors import UserError
from prefzoo.evals.judges.protocol import PromptRow
from prefzoo.experiment.search import validation_set
from prefzoo.recipe.data_paths import paths_of
from prefzoo.recipe.load import Recipe, Variant
from prefzoo.recipe.sources import Source, as_sources, names_of
from prefzoo.runtime.progress import Report, large_stage
from prefzoo.training.loss_inputs import Contents, check_fit


def unit(pairs: Sequence[TokenExample]) -> str:
    """Return what the rows of a data set are called: pairs, or answers."""
    return "pairs" if isinstance(pairs[0], TokenPair) else "answers"


def check_variants(recipe: Recipe, contents: Contents) -> None:
    """Check that the training data has the columns that every variant needs.

    Args:
        recipe: names the variants.
        contents: the contents of the training data.

    Raises:
        UserError: something is missing; a line for each variant.
    """
    faults: list[str] = []
    for name, variant in recipe.variants.items():
        try:
            check_fit(variant.loss_obj, contents, _least_batch(variant), f"variants.{name}")
        except UserError as e:
            faults += e.lines
    if faults:
        raise UserError(faults)


def _least_batch(variant: Variant) -> int:
    """Return the smallest number of rows of a step among the settings to try."""
    tried = [value for axis in variant.axes if axis.path == ("train", "batch") for value in axis.values]
    return int(min(tried or [variant.train.batch]))


def source_of(recipe: Recipe, named: str | Source | list[Source]) -> DataSource | Mixture:
    """Return a data set, or several, with the recipe's settings for reading them."""
    data, sources = recipe.data, as_sources(named)
    read = [
        DataSource(
            one.path, dict(one.columns or data.columns), one.format or data.format, data.on_bad_row, name, one.weight,
            one.rows, one.split, one.revision, one.streaming, data.pairs,
        )
        for one, name in zip(sources, names_of(sources), strict=True)
    ]  # fmt: skip
    return read[0] if len(read) == 1 else Mixture(tuple(read))


def reading_of(recipe: Recipe) -> Reading:
    """Return the recipe's settings for reading conversations."""
    return Reading(recipe.data.score, recipe.data.chat_template_kwargs)


def read_data(
    recipe: Recipe, tokenizer: Any, prompts: Sequence[PromptRow] = (), console: Console | None = None
) -> dict[str, AuditedData]:
    """Tokenise a recipe's data sets, and audit them.

    Args:
        recipe: says how to read them, and gives the maximal length.
        tokenizer: the model's.
        prompts: those of `evals.prompts`; training rows that are nearly the same are leaks, too.
        console: where the progress on large data sets goes; None for nowhere.

    Returns:
        The training data as `train`, the held-out data, where there is some, as `eval`, and the data set by which
        settings are chosen, where it is one of its own, as `validation`.

    Raises:
        UserError: a data set is wrong.
    """
    tested_on, held_out = [], None
    if recipe.data.eval:
        held_out = audited(recipe, recipe.data.eval, tokenizer, console=console)
        tested_on.append(TestedOn(recipe.data.eval_spec, held_out.examples))
    chosen_by = None
    if path := validation_set(recipe):
        if path in paths_of(recipe.data.eval):
            raise UserError(f"sweep.validation: {path} is also data.eval; name pairs that are not tested on")
        chosen_by = audited(recipe, path, tokenizer, console=console)
        tested_on.append(TestedOn(path, chosen_by.examples))
    if prompts:
        tested_on.append(TestedOn(str(recipe.evals.prompts), (), [spoken(row.prompt) for row in prompts]))
    train = audited(recipe, recipe.data.train, tokenizer, tested_on, console, recipe.data.flip_labels)
    if recipe.data.pairs == "ranked" and not train.rated:
        raise UserError(
            "data.pairs: ranked is for rows with several rated answers to a prompt, and "
            f"{recipe.data.train_spec} has {train.audit.schema.partition(';')[0]}; remove it"
        )
    others = {"eval": held_out, "validation": chosen_by}
    return {"train": train} | {use: data for use, data in others.items() if data is not None}


def read_rows_of(
    recipe: Recipe, named: str | Source | list[Source], tokenizer: Any
) -> tuple[Sequence[Row], Sequence[Example]]:
    """Read a data set as training does, without tokenising it.

    Args:
        recipe: says how to read it.
        named: the data set, as `data.train` names it.
        tokenizer: the model's.

    Returns:
        The rows of the file, and the examples that they make, each with the number of its row.

    Raises:
        UserError: it is wrong.
    """
    data, _ = read_source(source_of(recipe, named), recipe.folder, turns=bool(tokenizer.chat_template))
    return data.rows, data.examples


def audited(
    recipe: Recipe, named: str | Source | list[Source], tokenizer: Any, tested_on: Sequence[TestedOn] = (),
    console: Console | None = None, flip: float = 0.0,
) -> AuditedData:  # fmt: skip
    """Tokenise a data set, and audit it.

    Args:
        recipe: says how to read it, and gives the maximal length.
        named: the data set, as `data.train` names it.
        tokenizer: the model's.
        tested_on: what a model that is trained on it is tested on.
        console: where the progress on a large data set goes; None for nowhere.
        flip: the share of the labels to flip.

    Returns:
        The data, with its audit.

    Raises:
        UserError: it is wrong.
    """
    data, source = recipe.data, source_of(recipe, named)

    def stages(title: str) -> AbstractContextManager[Report]:
        return large_stage(title, "rows", console, CHUNK)

    return read_and_audit(
        source, recipe.folder, tokenizer, data.max_length, data.too_long, reading_of(recipe), data.drop, tested_on,
        flip, stages,
    )  # fmt: skip
