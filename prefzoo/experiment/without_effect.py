"""Find settings that change nothing in a training, and ties in data for losses that take them for preferences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prefzoo.experiment.search import Trial
from prefzoo.losses import AnyLoss
from prefzoo.recipe.load import Recipe
from prefzoo.training.job import steps_of

TIES = "leave them out, or use dpo_rk or dpo_davidson, which expect ties"


def without_effect(recipe: Recipe, trials: Sequence[Trial], pairs: int, audit: dict[str, Any]) -> list[str]:
    """Look for settings of a training that change nothing, and for ties that are not read as such.

    Args:
        recipe: the recipe.
        trials: all of the recipe's.
        pairs: the rows that are trained on.
        audit: the audit of the training data.

    Returns:
        A line for each setting, and one for ties.
    """
    lines = [line for trial in trials for line in _of_reference(recipe, trial, pairs)]
    return [*dict.fromkeys(lines), *_of_ties(trials, audit)]


def _of_reference(recipe: Recipe, trial: Trial, pairs: int) -> Iterator[str]:
    train, loss = trial.variant.train, trial.variant.loss_obj
    sync, steps = train.sync_reference, steps_of(train, pairs)
    shared = sync is not None and sync == recipe.train.sync_reference
    at = f"variants.{trial.arm}.train.sync_reference"
    if sync is None or (shared and not loss.needs_reference):
        return
    if not loss.needs_reference:
        yield f"{at}: {loss.name} reads no reference, so this has no effect; leave it out"
    elif sync.every > steps:
        yield f"{at}.every: is {sync.every}, and there are {steps} steps, so the reference never moves; lower it"
    elif (sync.every, sync.alpha, sync.when, sync.bema) == (1, 1.0, "after", None):
        yield (
            f"{at}: the reference is the policy itself at each step, so all log-ratios are 0; set when: before, a "
            "larger every or a smaller alpha"
        )


def _of_ties(trials: Sequence[Trial], audit: dict[str, Any]) -> Iterator[str]:
    names = dict.fromkeys(trial.variant.loss_obj.name for trial in trials if _prefers(trial.variant.loss_obj))
    if audit.get("ties") and names:
        which = f"{', '.join(names)} {'reads' if len(names) == 1 else 'read'}"
        yield (
            f"data.train: {audit['ties']} of {audit['rows']} pairs are ties (equal scores, or tie: true), which "
            f"{which} as preferences; {TIES}"
        )


def _prefers(loss: AnyLoss) -> bool:
    """Return whether a loss takes every pair for a preference: it reads the rejected answers, and no scores."""
    return not loss.needs_scores and any(term.name != "sft" for _, term in loss.terms)
