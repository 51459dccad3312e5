"""Load the judge of a recipe, and check that it can judge the recipe's prompts. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

from prefzoo.errors import UserError
from prefzoo.evals.judges import load_judge
from prefzoo.evals.judges.checks import holds
from prefzoo.evals.judges.protocol import Judge, PromptRow
from prefzoo.recipe.load import Recipe


def recipe_judge(recipe: Recipe, prompts: Sequence[PromptRow]) -> Judge:
    """Return the recipe's judge, checked before anything is trained.

    Raises:
        UserError: there is no such judge, or it cannot judge these prompts.
    """
    judge = load_judge(recipe.evals.judge, recipe.folder)
    check_judgeable(judge, prompts, "evals.judge", "evals.prompts")
    return judge


def check_judgeable(judge: Judge, prompts: Sequence[PromptRow], judge_place: str, prompts_place: str) -> None:
    """Check that a judge can judge these prompts, and that no prompt is repeated.

    Args:
        judge: the judge.
        prompts: the prompts to answer.
        judge_place: the field or option that names the judge, for messages.
        prompts_place: the one that names the prompts.

    Raises:
        UserError: it cannot, a check of a prompt does not exist, or a prompt is repeated. The judge itself is not
            asked: see `Judge.check`.
    """
    bare = [row.id for row in prompts if not row.checks]
    if judge.needs_checks and bare:
        raise UserError(
            f"{judge_place}: {judge.name} scores only prompts with checks, and {len(bare)} of {len(prompts)} have none "
            f"(the first is {bare[0]}); choose another judge, or prompts like instruct:eval"
        )
    for row in prompts if judge.needs_checks else ():
        for spec in row.checks:
            holds("", spec)
    twice = len(prompts) - len({row.text for row in prompts})
    if twice:
        raise UserError(f"{prompts_place}: {twice} of {len(prompts)} prompts are repeated; keep one of each")
