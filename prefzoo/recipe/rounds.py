"""The section `rounds` of a recipe: train variants repeatedly on pairs of their own answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from prefzoo.losses import Positive
from prefzoo.recipe.judge import AnyJudge
from prefzoo.recipe.sections import Count, RecipeSection, Text, Train
from prefzoo.recipe.sources import as_sources
from prefzoo.recipe.yaml import RawRecipe

ROUND = re.compile(r"(?P<chain>.+)-r(?P<number>[1-9]\d?)")  # the name of a variant that is one round
LONGEST = 64  # characters of a name
NO_LIST = "each round is one training, and this is a list of values to choose from; give one value"


class Rounds(RecipeSection):
    """On-policy rounds (iterative DPO): sample answers of the last round's policy, pair them by a judge, train on them.

    Every round is measured, and every round's reference is the first: the recipe's `reference`, or its `model`.
    `first: data` trains the first round on `data.train` as it is, without sampling.
    """

    count: Annotated[int, Field(ge=1, le=99)]
    first: Literal["sample", "data"] = "sample"
    prompts: Text | None = None
    judge: AnyJudge | None = None
    n: Annotated[int, Field(ge=2)] = 8
    temperature: Positive = 1.0
    max_new_tokens: Count | None = None


def _as_mapping(value: Any) -> Any:
    """Take a number for the number of rounds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"count": value}
    if value is not None and not isinstance(value, dict):
        raise PydanticCustomError(
            "rounds", "must be a number of rounds, or a mapping (is {shown}); like 3", {"shown": repr(value)}
        )
    return value


Variant = TypeVar("Variant", bound=BaseModel)
RoundsField = Annotated[Rounds | None, BeforeValidator(_as_mapping)]


def in_rounds(source: RawRecipe, recipe: Any, variants: Mapping[str, Variant]) -> dict[str, Variant]:
    """Return a recipe's variants with each split into its rounds: `dpo` becomes `dpo-r1`, `dpo-r2`, ...

    Variants that are rounds already, as a resolved recipe has them, stay.

    Args:
        source: the recipe's text; takes the faults.
        recipe: with its `rounds`.
        variants: as the recipe has them.

    Returns:
        The variants; the same ones without `rounds`.
    """
    if recipe.rounds is None:
        return dict(variants)
    for keys, fault in _faults(recipe, variants):
        source.fault(keys, fault)
    numbers = range(1, recipe.rounds.count + 1)
    rounds: dict[str, Variant] = {}
    for name, variant in variants.items():
        match = ROUND.fullmatch(name)
        if match and all(f"{match['chain']}-r{number}" in variants for number in numbers):
            rounds[name] = variant.model_copy(update={"chain": match["chain"], "round": int(match["number"])})
            continue
        for number in numbers:
            own = f"{name}-r{number}"
            if len(own) > LONGEST or own in variants:
                source.fault(
                    ("variants", name),
                    f"its rounds would be named {own}, which is not a valid name; choose another name",
                )
            rounds[own] = variant.model_copy(update={"name": own, "chain": name, "round": number})
    return rounds


def _faults(recipe: Any, variants: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the place and the reason of each setting that rounds cannot be combined with."""
    rounds: Rounds = recipe.rounds
    if rounds.prompts is not None and rounds.first == "sample":
        yield ("rounds", "prompts"), "data.train would not be read; add first: data, or leave out prompts"
    if recipe.evals.frontier:
        yield ("evals", "frontier"), "measures points of one training, and every round is measured; leave it out"
    if recipe.sweep is not None:
        yield ("sweep",), "has no settings to choose from in rounds; leave it out"
    weighted = [one.weight for one in as_sources(recipe.data.train) if one.weight is not None]
    if weighted and rounds.first == "sample":
        yield (
            ("data", "train"),
            f"weights (like {weighted[0]:g}) have no effect where only prompts are read; remove them",
        )
    for name, variant in variants.items():
        if variant.axes:
            yield ("variants", name, *variant.axes[0].path), NO_LIST
        for setting, reason in _refused(variant.train):
            yield ("variants", name, "train", setting), reason


def _refused(train: Train) -> Iterator[tuple[str, str]]:
    if train.sync_reference is not None:
        yield "sync_reference", "moves the reference, but all rounds share one; leave out rounds or this field"
    if train.pair_weights is not None:
        yield "pair_weights", "names a column of data.train, which sampled pairs do not have; leave it out"
    if train.side_by_side == "on":
        yield "side_by_side", "is on, but each round starts from another model; set it to auto"
