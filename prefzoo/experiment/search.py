"""Tune: list a recipe's trials, and choose each variant's setting by validation numbers. Pure functions.

A trial is an ordinary variant with a stable name and one seed, so that caching, resuming and keys of variants work for
trials too. Nothing here sees a number of the test split: only `choose` makes a choice, and it takes validation scores.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from typing import Any

import numpy as np
from pydantic import ValidationError

from prefzoo.data.tokens import TokenExample
from prefzoo.data.views import select
from prefzoo.errors import UserError
from prefzoo.recipe.axes import Axis, Sweep, set_at_path
from prefzoo.recipe.load import SLUG, Recipe, Variant

Values = dict[str, Any]  # dotted path within the variant -> value


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        name: of its folder: the variant's, the setting's and the seed's.
        arm: the variant of the recipe that it tries a setting of.
        setting: its name without the seed; trials of one setting differ in the seed alone.
        values: its values of the settings that vary.
    """

    name: str
    arm: str
    setting: str
    values: Values
    seed: int
    variant: Variant


@dataclass(frozen=True)
class Score:
    """A trial's score on the validation split.

    Attributes:
        accuracy: share of pairs whose chosen answer gained more than the rejected one over the reference, ties half.
        moved: mean of |margin| in nats: how far the policy moved.
    """

    accuracy: float
    moved: float


def is_sweep(recipe: Recipe) -> bool:
    """Return whether there is anything to tune, or a list of seeds, to which another may be added later."""
    return bool(recipe.seeds) or any(v.axes for v in recipe.variants.values())


def settings_of(recipe: Recipe) -> Sweep:
    """Return the recipe's `sweep`, or its defaults."""
    return recipe.sweep or Sweep()


def validation_set(recipe: Recipe) -> str | None:
    """Return the data set by which settings are chosen; None for a share of the training data, or no choice."""
    source = settings_of(recipe).validation
    return source if isinstance(source, str) and any(v.axes for v in recipe.variants.values()) else None


def expand(recipe: Recipe) -> list[Trial]:
    """Return every trial: variants in the recipe's order, then settings, then seeds.

    Raises:
        UserError: variants have different numbers of settings and the recipe does not allow it, or a combination of
            values is refused.
    """
    seeds = recipe.seeds or [recipe.seed]
    single = not is_sweep(recipe)
    trials: list[Trial] = []
    for arm, variant in recipe.variants.items():
        for values in combinations(variant, settings_of(recipe).trials, recipe.seed):
            setting = _name(arm, values)
            with_values = _with(variant, values)
            for seed in seeds:
                name = arm if single else f"{setting}-s{seed}"
                trials.append(Trial(name, arm, setting, values, seed, with_values.model_copy(update={"name": name})))
    twice = [name for name, count in Counter(t.name for t in trials).items() if count > 1]
    if twice:
        raise UserError(f"variants: two trials would be named {twice[0]}; rename a variant")
    _check_budgets(recipe, budgets(trials))
    return trials


def budgets(trials: Sequence[Trial]) -> dict[str, int]:
    """Return how many settings are tried, per variant."""
    return {arm: len({t.setting for t in trials if t.arm == arm}) for arm in dict.fromkeys(t.arm for t in trials)}


def _check_budgets(recipe: Recipe, settings: Mapping[str, int]) -> None:
    if len(set(settings.values())) <= 1 or settings_of(recipe).unequal_budgets == "flag":
        return
    counts = ", ".join(f"{arm} {n}" for arm, n in settings.items())
    raise UserError(
        f"variants: unequal tuning ({counts} settings) favours variants with more; give all the same number, thin "
        f"larger grids by sweep.trials: {min(settings.values())}, or accept it by sweep.unequal_budgets: flag, which "
        "the report repeats"
    )


def combinations(variant: Variant, most: int | None, seed: int) -> list[Values]:
    """Return the settings of a variant.

    Args:
        variant: one with grids or ranges, or none of them.
        most: how many points are tried; None: the whole grid.
        seed: of the quasi-random points of ranges, and of the choice among a grid's.

    Returns:
        The values of each setting, by dotted path.
    """
    if any(axis.scale for axis in variant.axes):
        assert most is not None  # the recipe's reader asks for it
        return list(_drawn(variant, most, seed))
    names = [".".join(axis.path) for axis in variant.axes]
    grid = [dict(zip(names, values, strict=True)) for values in product(*(axis.values for axis in variant.axes))]
    if most is None or len(grid) <= most:
        return grid
    ranked = sorted(range(len(grid)), key=lambda i: sha256(f"{seed} {variant.name} {grid[i]}".encode()).digest())
    return [grid[i] for i in sorted(ranked[:most])]


def _drawn(variant: Variant, count: int, seed: int) -> Iterator[Values]:
    """Yield Optuna's quasi-random points: they cover a space evenly, and all are known before the first is trained."""
    try:
        import optuna
    except ImportError:
        raise UserError(
            f"variants.{variant.name}: ranges are searched by Optuna, which is not installed; "
            "pip install 'prefzoo[sweep]', or write lists of values"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sampler is marked experimental
        sampler = optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        study = optuna.create_study(sampler=sampler)
        space = {".".join(axis.path): _distribution(optuna, axis) for axis in variant.axes}
        for _ in range(count):
            trial = study.ask(space)
            study.tell(trial, 0.0)
            yield {
                name: axis.values[trial.params[name]] if not axis.scale else float(f"{trial.params[name]:.4g}")
                for name, axis in zip(space, variant.axes, strict=True)
            }


def _distribution(optuna: Any, axis: Axis) -> Any:
    if axis.scale:
        return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.scale == "log")
    return optuna.distributions.IntDistribution(0, len(axis.values) - 1)


def _with(variant: Variant, values: Values) -> Variant:
    plain: dict[str, Any] = {"train": variant.train.model_dump(), "params": variant.params.model_dump()}
    reference = values.get("reference", variant.reference)
    for name, value in values.items():
        path = tuple(name.split("."))
        if name != "reference":
            set_at_path(plain, path if path[0] == "train" else ("params", *path), value)
    try:
        train = type(variant.train).model_validate(plain["train"])
        params = type(variant.params).model_validate(plain["params"])
    except ValidationError as e:
        raise UserError(f"variants.{variant.name}: {values}: {e.errors()[0]['msg']}; change the lists") from None
    return variant.model_copy(update={"train": train, "params": params, "reference": reference, "axes": ()})


def _name(arm: str, values: Values) -> str:
    """Return a folder's name for a setting, which does not depend on the rest of the grid."""
    short = {name: "lr" if name == "train.learning_rate" else name.split(".")[-1] for name in values}
    shown = [f"{short[k]}{_short_value(v)}" for k, v in values.items()]
    name = re.sub(r"[^a-z0-9_.-]+", "", "-".join([arm, *shown]).lower())
    if len(name) <= 48 and re.fullmatch(SLUG, name):  # noqa: PLR2004 - the seed comes behind it
        return name
    return f"{arm[:40]}-{sha256(repr(sorted(values.items())).encode()).hexdigest()[:10]}"


def _short_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lstrip("./").replace("/", "-")


def split_off(pairs: Sequence[TokenExample], share: float) -> tuple[Sequence[TokenExample], Sequence[TokenExample]]:
    """Split into training and validation pairs.

    All pairs of a prompt go to one side; which one depends on its tokens alone. Eight bytes of each pair are held.

    Raises:
        UserError: nothing would be left on one of the sides.
    """

    keys = np.fromiter((_key(pair.prompt) for pair in pairs), np.uint64, len(pairs))
    prompts = np.unique(keys)
    held = np.isin(keys, prompts[: max(1, round(share * len(prompts)))])
    if held.all():
        raise UserError(f"sweep.validation: {share} of {len(prompts)} different prompts leaves none to train on")
    return select(pairs, np.flatnonzero(~held)), select(pairs, np.flatnonzero(held))


def _key(prompt: Sequence[int]) -> int:
    return int.from_bytes(sha256(repr(tuple(prompt)).encode()).digest()[:8])


def score(margins: Sequence[float]) -> Score:
    """Return the score of a trial's margins on the validation pairs, in nats."""
    signs = [(m > 0) + 0.5 * (m == 0) for m in margins]
    return Score(sum(signs) / len(signs), sum(map(abs, margins)) / len(margins))


def searched(recipe: Recipe, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that decide a choice: those of the first `sweep.search_seeds` seeds."""
    seeds = (recipe.seeds or [recipe.seed])[: settings_of(recipe).search_seeds]
    return [t for t in trials if t.seed in seeds]


def choose(trials: Sequence[Trial], scores: Mapping[str, Score]) -> dict[str, str]:
    """Return each variant's best setting by the scores of its trials on the validation split, the mean over seeds.

    Of equally accurate settings, the one that moved less wins; then the first. A setting without a score (stopped, or
    failed) is not a candidate, and a variant without candidates has no choice.
    """
    chosen: dict[str, str] = {}
    for arm in dict.fromkeys(t.arm for t in trials):
        ranked = rank([t for t in trials if t.arm == arm], scores)
        if ranked:
            chosen[arm] = ranked[0]
    return chosen


def rank(trials: Sequence[Trial], scores: Mapping[str, Score]) -> list[str]:
    """Return the settings of one variant whose trials all have a score, best first."""
    order = list(dict.fromkeys(t.setting for t in trials))
    of = {s: [scores.get(t.name) for t in trials if t.setting == s] for s in order}
    whole = {s: [x for x in own if x is not None] for s, own in of.items() if None not in own}

    def sort_key(setting: str) -> tuple[float, float]:
        own = whole[setting]
        return -math.fsum(x.accuracy for x in own) / len(own), math.fsum(x.moved for x in own) / len(own)

    return sorted(whole, key=sort_key)


def rungs(sweep: Sweep, steps: int) -> list[int]:
    """Return the steps after which trials are compared and the worst stopped; empty without early stopping."""
    halving = sweep.early_stopping
    if halving is None:
        return []
    steps_at = [math.ceil(steps / halving.factor**r) for r in range(halving.rungs, 0, -1)]
    return sorted({step for step in steps_at if 0 < step < steps})


def survivors(trials: Sequence[Trial], scores: Mapping[str, Score], factor: int) -> list[Trial]:
    """Return the trials of the best 1/`factor` of each variant's settings, at least one setting each.

    Args:
        trials: those that are compared.
        scores: theirs on the validation pairs, by name.
        factor: the inverse of the share that goes on.

    Returns:
        The trials that go on, in order.
    """
    kept: set[str] = set()
    for arm in dict.fromkeys(t.arm for t in trials):
        ranked = rank([t for t in trials if t.arm == arm], scores)
        kept.update(ranked[: max(1, len(ranked) // factor)])
    return [t for t in trials if t.setting in kept]
