"""A trial to train: its job, the hash of its settings, its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from prefzoo.data.tokens import TokenExample
from prefzoo.engine import reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.engine.precision import use_bf16
from prefzoo.engine.sharded_model import are_models_sharded
from prefzoo.experiment.base_logprobs import base_logprobs
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.jobs import passes_of, plain_job, plug_in_files
from prefzoo.experiment.search import Trial
from prefzoo.recipe.sections import Train
from prefzoo.runtime.atomic_files import sha256_of_file
from prefzoo.runtime.cache import key_of
from prefzoo.training.checkpoint import Checkpoints
from prefzoo.training.job import Frozen, Job, with_reference, with_start
from prefzoo.training.passes import Passes
from prefzoo.types import LogProbs

RESUME = "resume"  # beside a trial's checkpoint, while it is trained
NO_OUTCOME = {"trackers", "side_by_side"}  # settings of the loop that change no result
LATER = {name: Train.model_fields[name].default for name in ("optimizer", "pair_weights", "router_loss")}


@dataclass(frozen=True)
class Training:
    """A trial to train.

    Attributes:
        key: hash of all that its outcome depends on.
        params, settings: the loss's parameters and the loop's settings, as plain values.
        identity: model and data by name and by hash, and how log-probs are computed; see `RunResult`.
        checkpoints: the checkpoints that an interrupted training resumes from.
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
            "train": _settings(variant.train),
        }
        sources, reference = list(map(sha256_of_file, plug_in_files(variant.loss_obj))), experiment.reference_of(trial)
        settings |= {"sources": sources} if sources else {}
        settings |= {"reference": reference.weights} if reference else {}
        weights = experiment.pair_weights.get(variant.train.pair_weights or "")
        settings |= {} if weights is None else {"weights of pairs": sha256(weights.numpy().tobytes()).hexdigest()}
        if variant.loss_obj.needs_scores:
            settings["scores"] = experiment.scores
        rows, engine, bf16 = experiment.training_rows, reference_logprobs.ENGINE, use_bf16(variant.train)
        key = key_of([settings, trial.seed, experiment.weights, rows, engine, bf16, *experiment.mixture])
        recipe = experiment.recipe
        identity: dict[str, Any] = {
            "model": recipe.model, "data": recipe.data.model_dump(exclude={"eval"}), "weights": experiment.weights,
            "rows": rows, "engine": engine, "computed in": "bf16" if bf16 else "fp32",
            "code of the loss": key_of(sources) if sources else None,
            "reference": reference.spec if reference else None,
            "reference's weights": reference.weights if reference else None,
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


def _settings(train: Train) -> dict[str, Any]:
    """Return the settings that a training depends on; a setting that came later is left out at its default.

    So trainings from before the setting was added are not repeated.
    """
    plain = train.model_dump(exclude=NO_OUTCOME)
    if train.sync_reference is not None:
        later = {"bema": None, "when": "after"}
        plain["sync_reference"] = {k: v for k, v in plain["sync_reference"].items() if k not in later or v != later[k]}
    return {name: value for name, value in plain.items() if name not in LATER or value != LATER[name]}


@dataclass
class References:
    """The models that trainings are measured from, and the hashes of their weights; each is loaded when it is read.

    Attributes:
        start: the model that policies start from, quantised where they are.
        weights: the hash that identifies it.
        others: references of other weights, by their hash.
    """

    start: Base
    weights: str
    others: dict[str, Base] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, quantize: str | None = None) -> References:
        """Return the references of trainings whose frozen weights are quantised so, or not at all."""
        if quantize is None:
            return cls(experiment.base, experiment.weights)
        experiment.base.drop()  # the reference is what training starts from: the same model, adapter off
        return cls(Base(lambda: experiment.load_base(quantize)), f"{experiment.weights}-{quantize}")

    def read(self, experiment: Experiment, trial: Trial) -> tuple[Base, str]:
        """Return a trial's reference, and the hash of its weights."""
        other = experiment.reference_of(trial)
        if other is None:
            return self.start, self.weights
        if other.weights not in self.others:
            self.start.release()
            load = partial(experiment.load_reference, other.spec)
            self.others[other.weights] = Base(load, sharded=are_models_sharded())
        return self.others[other.weights], other.weights

    def release(self) -> None:
        """Release the memory of all of them but a start that has room; a live reference stays, too: a job holds it."""
        self.start.release()
        for base in self.others.values():
            base.drop()


def job_with_reference(experiment: Experiment, trial: Trial, references: References, *, together: int = 1) -> Job:
    """Compute the reference's log-probs that a trial's loss needs.

    Args:
        experiment: what the trial is of; trials that see the same rows in the same passes share one result.
        trial: what is to be trained.
        references: the models; they stay in memory where they are read.
        together: how many trials are trained side by side with it, itself included.

    Returns:
        The trial's job.
    """
    job, passes = plain_job(experiment, trial), passes_of(trial)
    alike = [t for t in experiment.trials.values() if passes_of(t) == passes]
    steps = max((replace(job, train=t.variant.train).steps for t in alike), key=len)  # shorter ones are its beginning

    def frozen_by(base: Base, weights: str) -> Frozen:
        def frozen(pairs: Sequence[TokenExample], title: str, kind: type[LogProbs], passes: list[Passes]) -> LogProbs:
            return base_logprobs(
                experiment, pairs, title, kind, bf16=job.bf16, base=base, weights=weights, layout=job.layout,
                passes=passes,
            )  # fmt: skip

        return frozen

    if job.other_reference:
        job = with_start(job, frozen_by(references.start, references.weights), together=together)
    base, weights = references.read(experiment, trial)
    return with_reference(job, base, frozen_by(base, weights), steps=steps, together=together)
