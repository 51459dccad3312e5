"""One trial that is to be trained: its job, its settings' hash, its files."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefzoo.data.tokens import TokenExample
from prefzoo.engine import reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.engine.precision import use_bf16
from prefzoo.experiment.base_logprobs import base_logprobs
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.search import Trial
from prefzoo.losses import AnyLoss, Loss, Sum
from prefzoo.runtime.atomic_files import sha256_of_file
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.plugins import PACKAGE
from prefzoo.training.checkpoint import Checkpoints
from prefzoo.training.job import Job, with_reference
from prefzoo.training.passes import Passes
from prefzoo.types import LogProbs

RESUME = "resume"  # beside a trial's checkpoint, while it is trained
NO_OUTCOME = {"trackers", "side_by_side"}  # settings of the loop that change no result


@dataclass(frozen=True)
class Training:
    """A trial that is to be trained.

    Attributes:
        key: hash of all that its outcome depends on.
        params, settings: the loss's parameters and the loop's settings, as plain values.
        identity: model and data by name and by hash, and how log-probs are computed; see `RunResult`.
        checkpoints: what an interrupted training goes on from.
    """

    trial: Trial
    folder: Path
    key: str
    params: dict[str, Any]
    settings: dict[str, Any]
    identity: dict[str, Any]
    checkpoints: Checkpoints

    @classmethod
    def of(cls, experiment: Experiment, trial: Trial) -> Training:
        """Return the training of a trial."""
        variant, folder = trial.variant, experiment.folder / trial.name
        settings: dict[str, Any] = {
            "loss": variant.loss,
            "params": variant.params.model_dump(),
            "train": variant.train.model_dump(exclude=NO_OUTCOME),
        }
        sources = _plug_in_sources(variant.loss_obj)
        settings |= {"sources": sources} if sources else {}
        rows, engine, bf16 = experiment.training_rows, reference_logprobs.ENGINE, use_bf16(variant.train)
        key = key_of([settings, trial.seed, experiment.weights, rows, engine, bf16])
        recipe = experiment.recipe
        identity: dict[str, Any] = {
            "model": recipe.model, "data": recipe.data.model_dump(exclude={"eval"}), "weights": experiment.weights,
            "rows": rows, "engine": engine, "computed in": "bf16" if bf16 else "fp32",
            "code of the loss": key_of(sources) if sources else None,
        }  # fmt: skip
        checkpoints = Checkpoints(folder / RESUME, key, experiment.save_every, experiment.console.print)
        return cls(trial, folder, key, settings["params"], settings["train"], identity, checkpoints)

    @property
    def name(self) -> str:
        """The trial's."""
        return self.trial.name

    @property
    def log(self) -> Path:
        """The file of its metrics, a line per step."""
        return self.folder / "metrics.jsonl"

    @property
    def quantize(self) -> str | None:
        """How its frozen weights are quantised, if they are."""
        lora = self.trial.variant.train.lora
        return lora.quantize if lora else None


def _plug_in_sources(loss: AnyLoss) -> list[str]:
    """Return hashes of the files of the losses that are not prefzoo's own: edited, they are other losses."""
    terms = [term for _, term in loss.terms] if isinstance(loss, Sum) else [loss]
    files = [Path(inspect.unwrap(term.fn).__code__.co_filename) for term in terms if isinstance(term, Loss)]
    return [sha256_of_file(file) for file in files if not file.is_relative_to(PACKAGE) and file.is_file()]


def plain_job(experiment: Experiment, trial: Trial) -> Job:
    """Return the job of a trial, without what its loss needs of the reference."""
    variant = trial.variant
    bf16 = use_bf16(variant.train)
    return Job(
        variant.loss_obj, variant.params, variant.train, trial.seed, experiment.pairs, experiment.layout, bf16
    )  # fmt: skip


def job_with_reference(experiment: Experiment, trial: Trial, base: Base, weights: str, *, together: int = 1) -> Job:
    """Score what a trial's loss needs of the reference.

    Args:
        experiment: what the trial is of; trials that see the same rows in the same passes share one result.
        trial: what is to be trained.
        base: the reference model, quantised where the policy is.
        weights: the hash that identifies its weights.
        together: how many trials are trained side by side with it, itself included.

    Returns:
        The trial's job.
    """
    job, passes = plain_job(experiment, trial), passes_of(trial)
    alike = [t for t in experiment.trials.values() if passes_of(t) == passes]
    steps = max((replace(job, train=t.variant.train).steps for t in alike), key=len)  # shorter ones are its beginning

    def frozen(pairs: Sequence[TokenExample], title: str, kind: type[LogProbs], passes: list[Passes]) -> LogProbs:
        return base_logprobs(
            experiment, pairs, title, kind, bf16=job.bf16, base=base, weights=weights, passes=passes
        )  # fmt: skip

    return with_reference(job, base, frozen, steps=steps, together=together)


def passes_of(trial: Trial) -> tuple[object, ...]:
    """Return all that the rows and passes of a training depend on, besides its length."""
    train = trial.variant.train
    return trial.seed, train.batch, train.micro_batch, train.tokens
