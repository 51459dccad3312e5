"""The reference stage: compute the base's log-probs once, before several trainings need them."""

from __future__ import annotations

from typing import Any

from prefzoo.engine.precision import use_bf16
from prefzoo.experiment.base_logprobs import base_on_held_out, base_on_validation
from prefzoo.experiment.base_room import make_room
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.jobs import passes_of
from prefzoo.experiment.search import Trial
from prefzoo.experiment.stages.stage import REFERENCE, Done, Result
from prefzoo.experiment.stages.trainings import References, job_with_reference
from prefzoo.training.loss_inputs import kind_of


def score_references(experiment: Experiment) -> dict[str, Result]:
    """Cache the base's log-probs for trainings, the choice and the margins. All processes call this."""
    done: set[Any] = set()
    make_room(experiment, list(experiment.trials.values()))
    references, earlier = References.of(experiment), ""
    for trial in sorted(experiment.trials.values(), key=lambda trial: _weights(experiment, trial)):
        if _weights(experiment, trial) != earlier:  # one of them in memory at a time
            references.release()
            earlier = _weights(experiment, trial)
        loss, settings = trial.variant.loss_obj, trial.variant.train
        kind = kind_of(loss, "reference") if loss.needs_reference else None
        mismatched = (trial.seed, settings.batch, settings.steps, settings.epochs) if loss.needs_mismatched else None
        needed = (kind, mismatched, use_bf16(settings), passes_of(trial), earlier)
        quantised = settings.lora and settings.lora.quantize  # scored by its own training, under other weights
        if (kind or mismatched) and needed not in done and not quantised:
            done.add(needed)
            job_with_reference(experiment, trial, references)
    if earlier:
        references.release()
    if experiment.validation:
        base_on_validation(experiment)
    if experiment.held_out:
        base_on_held_out(experiment)
    return {REFERENCE: Done()}


def _weights(experiment: Experiment, trial: Trial) -> str:
    """Return the hash of a trial's reference; empty if it is the model itself."""
    other = experiment.reference_of(trial)
    return other.weights if other else ""
