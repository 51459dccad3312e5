"""Views of on-policy rounds: each round is an experiment whose model is the policy of the round before.

The pairs of a round are in its trial's folder, and their card names everything that they depend on. So everything that
a round depends on is on disk, and any process can continue it.
"""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from prefzoo.engine import models
from prefzoo.engine.base_model import Base
from prefzoo.engine.sharded_model import are_models_sharded
from prefzoo.errors import UserError
from prefzoo.evals.generation.pairs import Sampling
from prefzoo.evals.generation.vllm import engine_version
from prefzoo.evals.judges.protocol import PromptRow
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.data import audited, check_variants
from prefzoo.experiment.references import OtherReference
from prefzoo.experiment.search import Trial
from prefzoo.experiment.stages.measure import weights_of
from prefzoo.recipe.load import Recipe
from prefzoo.recipe.rounds import Rounds
from prefzoo.recipe.sections import Data
from prefzoo.runtime import run_folders
from prefzoo.runtime.atomic_files import sha256_of_file
from prefzoo.runtime.cache import ENGINE, key_of
from prefzoo.training.loss_inputs import contents_of

PAIRS = "pairs.jsonl"  # of a round, in its trial's folder; its card is beside it
SEEDS = 2**32  # seeds of trials are below it, so that no two rounds sample by one seed


def rounds_of(experiment: Experiment) -> Rounds:
    """Return the recipe's `rounds`, which it has."""
    rounds = experiment.recipe.rounds
    assert rounds is not None
    return rounds


def previous(experiment: Experiment, trial: Trial) -> Trial | None:
    """Return the trial of the round before, with the same seed; None of a first round."""
    before = (trial.variant.chain, trial.variant.round - 1, trial.seed)
    trials = experiment.trials.values()
    return next((t for t in trials if (t.variant.chain, t.variant.round, t.seed) == before), None)


def is_sampled(experiment: Experiment, trial: Trial) -> bool:
    """Return whether a round trains on sampled pairs, and not on `data.train`."""
    return rounds_of(experiment).first == "sample" or trial.variant.round > 1


def sampling_of(experiment: Experiment, trial: Trial) -> Sampling:
    """Return how the answers of a round are sampled."""
    rounds = rounds_of(experiment)
    tokens = rounds.max_new_tokens or experiment.recipe.evals.max_new_tokens
    return Sampling(rounds.n, rounds.temperature, trial.seed + SEEDS * trial.variant.round, tokens)


def policy_of(experiment: Experiment, trial: Trial) -> str:
    """Return the model that a round samples from and starts from: the recipe's, or the last round's checkpoint."""
    before = previous(experiment, trial)
    return (
        experiment.recipe.model if before is None else str((experiment.folder / before.name / "checkpoint").resolve())
    )


def pairs_key(experiment: Experiment, trial: Trial, prompts: Sequence[PromptRow]) -> str:
    """Return the hash of all that the pairs of a round depend on.

    Args:
        experiment: the whole one.
        trial: one of its trials.
        prompts: what answers are sampled to.

    Returns:
        16 hexadecimal digits.
    """
    recipe, before = experiment.recipe, previous(experiment, trial)
    judge, folder = judge_settings_of(recipe), recipe.folder
    weights = experiment.weights if before is None else weights_of(experiment, before.name)
    file = folder / Path(judge.rpartition(":")[0]) if isinstance(judge, str) else None
    code = sha256_of_file(file) if file is not None and file.is_file() else ""
    plain = judge if isinstance(judge, str | list) else judge.model_dump()
    engine = ENGINE if recipe.evals.engine == "hf" else engine_version()
    content = [
        weights, experiment.vocabulary, [asdict(row) for row in prompts], asdict(sampling_of(experiment, trial)),
        repr(plain), code, engine, dict(recipe.data.chat_template_kwargs),
    ]  # fmt: skip
    return key_of(content)


def judge_settings_of(recipe: Recipe) -> Any:
    """Return the settings of the judge that pairs answers."""
    assert recipe.rounds is not None
    return recipe.evals.judge if recipe.rounds.judge is None else recipe.rounds.judge


def card_of(experiment: Experiment, trial: Trial) -> dict[str, Any]:
    """Return the card of a round's pairs; empty if there are none, or not the ones that it names."""
    path = experiment.folder / trial.name / PAIRS
    try:
        card: dict[str, Any] = json.loads(Path(f"{path}.card.json").read_text(encoding="utf-8"))
        return card if card["sha256"] == sha256_of_file(path) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def card_lines(experiment: Experiment, trial: Trial) -> list[str]:
    """Return a model card's lines on the pairs of a round; none for a round without sampled pairs."""
    rounds, before = experiment.recipe.rounds, previous(experiment, trial)
    if rounds is None or not is_sampled(experiment, trial):
        return []
    card, source = card_of(experiment, trial), rounds.prompts or experiment.recipe.data.train_spec
    return [
        f"Round {trial.variant.round} of {rounds.count}: {card.get('pairs', 'unknown')} pairs of answers that "
        f"{before.name if before else experiment.recipe.model} gave to prompts of {source}, {rounds.n} to each at "
        f"temperature {rounds.temperature:g}, judged by {card.get('judge', 'unknown')}."
    ]


def view_of(experiment: Experiment, trial: Trial) -> Experiment | None:
    """Return the experiment that a round is trained in; None if its inputs do not exist yet.

    Its model is the policy of the round before, its data are the round's pairs, and its reference is the recipe's.

    Args:
        experiment: the whole one.
        trial: one of its trials.
    """
    if experiment.recipe.rounds is None:
        return experiment
    before, view = previous(experiment, trial), experiment
    if before is not None and run_folders.read_result(experiment.folder / before.name) is None:
        return None
    if is_sampled(experiment, trial):
        if card_of(experiment, trial).get("key") != pairs_key(experiment, trial, experiment.sampled_prompts):
            return None
        view = _with_pairs(view, experiment.folder / trial.name / PAIRS)
    return view if before is None else _from_checkpoint(view, experiment, trial, before)


def why_not_ready(experiment: Experiment, trial: Trial, trained: Container[str]) -> str:
    """Return why a round cannot be trained yet; empty if it can, and without rounds.

    Args:
        experiment: the whole one.
        trial: one of its trials.
        trained: names of the trials that are trained with their present settings.

    Returns:
        The reason in a few words.
    """
    if experiment.recipe.rounds is None:
        return ""
    before = previous(experiment, trial)
    if before is not None and before.name not in trained:
        return f"{before.name} is another model"
    return "" if view_of(experiment, trial) is not None else "its pairs changed"


def _with_pairs(experiment: Experiment, path: Path) -> Experiment:
    """Return the experiment with the pairs of a file, read as they were written."""
    recipe = experiment.recipe
    written = {
        "columns": {},
        "format": None,
        "drop": [],
        "on_bad_row": "error",
        "pairs": Data.model_fields["pairs"].default,
    }
    data = recipe.data.model_copy(update=written)
    read = audited(recipe.model_copy(update={"data": data}), str(path.resolve()), experiment.tokenizer)
    audits = {**experiment.audits, "train": asdict(read.audit)}
    return replace(experiment, pairs=read.tokens.examples, audits=audits)


def _from_checkpoint(view: Experiment, whole: Experiment, trial: Trial, before: Trial) -> Experiment:
    """Return a view whose policies start from a trial's checkpoint, and whose reference stays the recipe's."""
    start, recipe = policy_of(whole, trial), whole.recipe
    variant, references = trial.variant, dict(whole.references)
    if variant.reference is None and (variant.loss_obj.needs_reference or variant.loss_obj.needs_kl):
        variant = variant.model_copy(update={"reference": recipe.model})
    if variant.reference == recipe.model:
        references[recipe.model] = OtherReference(recipe.model, whole.weights, view.layout, whole.base.config)
    load = partial(_load, start, recipe)
    return replace(
        view, start=start, weights=weights_of(whole, before.name), references=references,
        base=Base(load, sharded=are_models_sharded()),
        trials={**whole.trials, trial.name: replace(trial, variant=variant)},
    )  # fmt: skip


def _load(start: str, recipe: Recipe) -> Any:
    return models.load(start, recipe.folder, trust=recipe.trust_remote_code, merge=True)[0]


def check_rounds_data(experiment: Experiment, trial: Trial) -> Experiment:
    """Return the experiment that a round is trained in, its data checked.

    Raises:
        UserError: its inputs are missing, or the pairs do not suit its loss.
    """
    view = view_of(experiment, trial)
    if view is None:
        raise UserError(f"{trial.name}: the round before it, or its pairs, are missing; start the run as a whole")
    if experiment.recipe.rounds is not None:
        only = view.recipe.model_copy(update={"variants": {trial.arm: trial.variant}})
        check_variants(only, contents_of(view.pairs))
    return view
