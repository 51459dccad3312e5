"""Arguments and options that several commands share."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefzoo.cli import complete
from prefzoo.errors import UserError
from prefzoo.runtime.paths import recipe_path

if TYPE_CHECKING:
    from prefzoo.recipe.load import Recipe


class RecipeFile(click.Path):
    """The path of a recipe, or the name of a packaged one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the recipe's file."""
        return recipe_path(Path(os.fsdecode(super().convert(value, param, ctx))))


def _mapping(context: click.Context, option: click.Parameter, text: str | None) -> dict[str, Any] | None:
    """Read an option's YAML."""
    if text is None:
        return None
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{option.opts[0]} {text}: not a mapping; write it like '{{enable_thinking: false}}'")
    return value


def _points(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Read the difference that counts as equal, in percentage points."""
    if text is None:
        return None
    try:
        points = float(text)
    except ValueError:
        points = math.nan
    if not 0 < points <= MOST_POINTS:
        raise UserError(f"--equivalence: must be above 0 and at most {MOST_POINTS} points (is {text}); like 3")
    return points


MOST_POINTS = 50
FILE = click.Path(path_type=Path)
RECIPE_FILE = RecipeFile(path_type=Path)
RECIPE = click.argument("recipe", type=RECIPE_FILE, shell_complete=complete.recipes)
SET = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a field; repeatable.",
    shell_complete=complete.fields,
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
RESULTS = click.option("--results", type=FILE, default=Path("results"), show_default=True, help="Folder for results.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print only results, no progress.")
JUDGE = click.option(
    "--judge", default="verifier", show_default=True, help="As evals.judge in a recipe; a mapping in YAML."
)
EQUIVALENCE = click.option(
    "--equivalence", callback=_points, metavar="POINTS",
    help="Largest difference that counts as equal, in percentage points; the verdict is then equal, different or "
         "undecided.",
)  # fmt: skip
ENGINE = click.option(
    "--engine",
    type=click.Choice(["hf", "vllm"]),
    default="hf",
    show_default=True,
    help="Program that generates the answers.",
)
TEMPLATE = click.option(
    "--chat-template-kwargs", callback=_mapping, metavar="MAPPING",
    help="Variables of the chat template, like '{enable_thinking: false}'; by default, eval uses the run's.",
)  # fmt: skip


def read_recipe(path: Path, overrides: tuple[str, ...]) -> Recipe:
    """Return a recipe; its mistakes are reported before a command imports torch.

    Raises:
        UserError: The recipe is wrong.
    """
    from prefzoo.recipe import load

    return load.load(path, overrides)
