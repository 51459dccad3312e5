"""References other than the trained model: `reference` of a recipe or of a variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from prefzoo.data.batches import Layout
from prefzoo.data.tokens import TokenExample
from prefzoo.engine import models
from prefzoo.engine.logprobs import LAYOUTS, choose_layout
from prefzoo.errors import UserError
from prefzoo.experiment.search import Trial
from prefzoo.recipe.load import Recipe
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.memory import release_memory
from prefzoo.runtime.progress import stage


@dataclass(frozen=True)
class OtherReference:
    """A model that trainings compare with, but do not start from.

    Attributes:
        spec: the recipe's name of it.
        weights: hash of its weights and configuration.
        layout: how rows are laid out in passes, so that they are exact for it and for the model that is trained.
        config: its transformers configuration.
    """

    spec: str
    weights: str
    layout: Layout
    config: Any


def read_references(
    recipe: Recipe, trials: Sequence[Trial], model: Any, tokenizer: Any, layout: Layout, pairs: Sequence[TokenExample],
    console: Console,
) -> Mapping[str, OtherReference]:  # fmt: skip
    """Load each reference once, to hash it and to check that it can score the trained model's pairs.

    All processes call this; the main process loads first. No reference stays in memory.

    Args:
        recipe: names the references.
        trials: all of the recipe's.
        model: the model that is trained.
        tokenizer: its tokenizer.
        layout: how rows are laid out for it.
        pairs: some rows.
        console: where progress goes.

    Returns:
        The references by the recipe's name.

    Raises:
        UserError: a reference cannot be loaded, has another tokenizer, or another number of rows in its embedding
            where a loss compares whole distributions.
    """
    specs = dict.fromkeys(t.variant.reference for t in trials if t.variant.reference not in (None, recipe.model))
    references: dict[str, OtherReference] = {}
    for spec in specs:
        users = [t for t in trials if t.variant.reference == spec]
        place = "reference" if recipe.reference == spec else f"variants.{users[0].arm}.reference"
        with stage(f"loading {spec}", "models", console), process_state().main_process_first():
            try:
                other, theirs = models.load(
                    spec, recipe.folder, trust=recipe.trust_remote_code, merge=True, on_device=True
                )
            except UserError as e:
                raise UserError([f"{place}: {line}" for line in e.lines]) from e
        reason = tokenizer_difference(tokenizer, theirs) or _why_not_comparable(users, model, other)
        if reason:
            raise UserError(f"{place}: {spec}: {reason}")
        own = max(layout, choose_layout(other, pairs), key=LAYOUTS.index)
        references[spec] = OtherReference(spec, models.fingerprint(other), own, other.config)
        del other
        release_memory()
    return references


def tokenizer_difference(ours: Any, theirs: Any) -> str:
    """Return what differs between two tokenizers' tokens, with a cure; an empty string if nothing does.

    Args:
        ours: the tokenizer of the model that is trained.
        theirs: the reference's.
    """
    mine, other = ({i: token for token, i in t.get_vocab().items()} for t in (ours, theirs))
    differing = sorted(i for i in mine.keys() | other.keys() if mine.get(i) != other.get(i))
    if not differing:
        return ""
    first = differing[0]
    return (
        f"its tokenizer differs from the model's: token {first} is {_shown(other.get(first))} there and "
        f"{_shown(mine.get(first))} here ({len(differing)} of {max(len(mine), len(other))} differ); "
        "name a reference of the same family"
    )


def _shown(token: str | None) -> str:
    return "missing" if token is None else repr(token)


def _why_not_comparable(users: Sequence[Trial], model: Any, other: Any) -> str:
    """Return why the KL from a reference cannot be computed; an empty string if it can."""
    mine, theirs = (len(m.get_input_embeddings().weight) for m in (model, other))
    reading = next((t for t in users if t.variant.loss_obj.needs_kl), None)
    if reading is not None and mine != theirs:
        return (
            f"its vocabulary has {theirs} entries and the model's {mine}, but {reading.variant.loss} compares whole "
            "distributions; name a reference with as many, or choose a loss that reads only log-probs"
        )
    return ""
