"""What is checked of a recipe before anything is loaded: what this machine can do, and what the executor can."""

from __future__ import annotations

from pathlib import Path

from prefzoo.engine import models
from prefzoo.evals.suites.tasks import check_names
from prefzoo.experiment.request import Request
from prefzoo.recipe import load
from prefzoo.recipe.load import Recipe
from prefzoo.training.accelerators import check_trackers


def load_checked(request: Request) -> Recipe:
    """Read the recipe of a request, and check what depends on this machine.

    Raises:
        UserError: the recipe is wrong, or names benchmarks, trackers or a quantisation that are not available here.
    """
    recipe = load.load(Path(request.recipe), request.overrides)
    check_names(recipe.evals.benchmarks, recipe.folder)
    check_trackers(recipe.train.trackers)
    for variant in recipe.variants.values():
        if variant.train.lora and variant.train.lora.quantize:
            models.check_quantize(f"variants.{variant.name}.train")
    return recipe
