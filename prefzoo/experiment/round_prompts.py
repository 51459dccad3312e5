"""Read the prompts that on-policy rounds sample answers to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prefzoo.data.examples import Example
from prefzoo.data.tokens import TokenExample
from prefzoo.errors import UserError
from prefzoo.evals.judges.conversations import as_text, simplified
from prefzoo.evals.judges.protocol import PromptRow
from prefzoo.evals.suites.prompts import load_prompts
from prefzoo.experiment.data import read_rows_of
from prefzoo.recipe.load import Recipe


def prompts_to_sample(recipe: Recipe, pairs: Iterable[TokenExample], tokenizer: Any) -> list[PromptRow]:
    """Return the prompts that every round samples answers to: `rounds.prompts`, or those of `data.train`.

    Args:
        recipe: one with rounds.
        pairs: the rows of `data.train` that training would use; each of their prompts counts once.
        tokenizer: the model's.

    Returns:
        No prompt twice.

    Raises:
        UserError: they cannot be read, or a row has tools, which sampling does not support.
    """
    if recipe.rounds is not None and recipe.rounds.prompts is not None:
        return load_prompts(recipe.rounds.prompts, recipe.folder)
    used = {example.row for example in pairs}
    rows, examples = read_rows_of(recipe, recipe.data.train, tokenizer)
    prompts: dict[str, PromptRow] = {}
    for example in examples:
        if example.row in used:
            row = rows[example.row]
            _refuse_tools(example)
            prompt = simplified(example.prompt)
            number = str(example.row + 1)
            prompts.setdefault(
                as_text(prompt), PromptRow(number, prompt, tuple(row.get("checks") or ()), row.get("topic"))
            )
    return list(prompts.values())


def _refuse_tools(example: Example) -> None:
    if example.tools or example.template:
        column = "tools" if example.tools else "chat_template_kwargs"
        raise UserError(f"data.train: row {example.row + 1} has {column}, which rounds do not support; remove them")
