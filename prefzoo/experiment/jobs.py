"""Build the job of a trial from only its settings and the sizes of its data; needs no torch."""

from __future__ import annotations

import inspect
from pathlib import Path

from prefzoo.engine.precision import use_bf16
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.search import Trial
from prefzoo.losses import AnyLoss
from prefzoo.runtime.plugins import PACKAGE
from prefzoo.training.job import Job, with_pass_size


def plain_job(experiment: Experiment, trial: Trial) -> Job:
    """Return the job of a trial, without the reference's log-probs."""
    variant, other = trial.variant, experiment.reference_of(trial)
    layout = other.layout if other else experiment.layout
    job = Job(
        variant.loss_obj, variant.params, variant.train, trial.seed, experiment.pairs, layout, use_bf16(variant.train),
        other_reference=other.weights if other else "",
        pair_weights=experiment.pair_weights.get(variant.train.pair_weights or ""), origins=experiment.origins("train"),
    )  # fmt: skip
    return with_pass_size(job, experiment.base.config)


def passes_of(trial: Trial) -> tuple[object, ...]:
    """Return all that the rows and passes of a training depend on, besides its length."""
    train = trial.variant.train
    return trial.seed, train.batch, train.micro_batch, train.tokens


def plug_in_files(loss: AnyLoss) -> list[Path]:
    """Return the files of losses and modifiers that are not prefzoo's own: edited, they are others."""
    functions = [term.fn for _, term in loss.terms] + [one.fn for one in loss.modifiers]
    files = [Path(inspect.unwrap(fn).__code__.co_filename) for fn in functions]
    return [file for file in files if not file.is_relative_to(PACKAGE) and file.is_file()]
