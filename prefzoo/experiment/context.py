"""An experiment: a recipe that was read and loaded in this process, which all stages share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from prefzoo.data.audit import Audit, AuditedData
from prefzoo.data.batches import Layout
from prefzoo.data.faults import BadRow
from prefzoo.data.mixtures import Origins, SourceCounts
from prefzoo.data.mixtures_view import sources_table
from prefzoo.data.tokens import TokenExample, TokenPair, only_pairs
from prefzoo.engine import models
from prefzoo.engine.base_model import Base
from prefzoo.engine.logprobs import NOTES, choose_layout, left_out
from prefzoo.engine.precision import native_bf16, use_bf16
from prefzoo.engine.reference_logprobs import rows_key
from prefzoo.engine.sharded_model import ShardedModel, are_models_sharded, shard_model
from prefzoo.errors import UserError
from prefzoo.evals.judges.protocol import PromptRow
from prefzoo.evals.suites.prompts import check_rendered, load_prompts
from prefzoo.experiment import search, work_names
from prefzoo.experiment.data import check_variants, read_data, unit
from prefzoo.experiment.model_checks import check_model
from prefzoo.experiment.pair_weights import read_pair_weights
from prefzoo.experiment.references import OtherReference, read_references
from prefzoo.experiment.request import Request
from prefzoo.experiment.round_prompts import prompts_to_sample
from prefzoo.experiment.search import Trial
from prefzoo.recipe.load import Recipe
from prefzoo.runtime import atomic_files
from prefzoo.runtime.distributed import in_main, process_state
from prefzoo.runtime.progress import stage
from prefzoo.runtime.rates import Rates
from prefzoo.runtime.run_folders import BASE


@dataclass(frozen=True)
class Experiment:
    """One recipe, read and loaded.

    Attributes:
        folder: of the run.
        trials: every training, by name; of a recipe without seeds and grids, one per variant.
        tokenizer, base: of the untrained model.
        weights, vocabulary: hashes that identify the base model and its tokenizer.
        pairs: what is trained on.
        validation: pairs that settings are chosen by; empty where there is nothing to choose.
        held_out, prompts: the test split.
        audits: what `data_audit.json` holds: an audit of each data set by its use.
        bad_rows: the rows of each data set, by its use, that were left out: unusable ones, and those of `data.drop`.
        save_every: seconds between two checkpoints of a training.
        references: the references that are named apart from the model, by the recipe's name of them.
        pair_weights: by column, (P,) weights of the training pairs in the mean loss.
        start: what policies start from, if that is not the recipe's model.
    """

    recipe: Recipe
    folder: Path
    console: Console
    trials: dict[str, Trial]
    tokenizer: Any
    base: Base
    weights: str
    vocabulary: str
    pairs: Sequence[TokenExample]
    validation: Sequence[TokenPair]
    held_out: Sequence[TokenPair]
    prompts: list[PromptRow]
    layout: Layout
    audits: dict[str, Any]
    bad_rows: dict[str, list[BadRow]]
    save_every: float
    references: Mapping[str, OtherReference]
    pair_weights: Mapping[str, Tensor]
    start: str = ""

    def origins(self, use: str) -> Origins | None:
        """Return the sources of the data for a use, `train` or `eval`; None where there is one."""
        sources = self.audits.get(use, {}).get("sources")
        return Origins([SourceCounts(**one) for one in sources]) if sources else None

    @cached_property
    def held_out_sources(self) -> list[str]:
        """The source of each held-out pair; empty where there is one source."""
        origins = self.origins("eval")
        return [] if origins is None else [origins.names[origins.number(pair.row)] for pair in self.held_out]

    @property
    def mixture(self) -> list[tuple[float, int]]:
        """The weight of each source of the training data, and how many rows it has; empty without weights."""
        sources = self.audits["train"].get("sources", ())
        return [(one["weight"], one["kept"]) for one in sources if one["weight"] is not None]

    @cached_property
    def frontier_points(self) -> int:
        """At how many points of each training KL and reward are measured; 0 without prompts to sample from."""
        return self.recipe.evals.frontier if self.recipe.evals.prompts else 0

    @cached_property
    def rates(self) -> Rates:
        """How long the work of this model takes on this machine."""
        return Rates(self.weights)

    @cached_property
    def without_test_split(self) -> Experiment:
        """The experiment as trainings see it: nothing of the test split is there to be read."""
        return replace(self, held_out=[], prompts=[])

    @cached_property
    def training_rows(self) -> str:
        """Hash of the training pairs."""
        return rows_key(self.pairs)

    @cached_property
    def validation_rows(self) -> str:
        """Hash of the validation pairs."""
        return rows_key(self.validation)

    @cached_property
    def sampled_prompts(self) -> list[PromptRow]:
        """The prompts that every round samples answers to."""
        return prompts_to_sample(self.recipe, self.pairs, self.tokenizer)

    def load_base(self, quantize: str | None = None, *, stored: bool = False) -> Any:
        """Return a new copy of the untrained model.

        Args:
            quantize: how it is quantised, if it is.
            stored: whether its weights are read in the precision of their file; otherwise in fp32.
        """
        recipe, dtype = self.recipe, None if stored else torch.float32
        with self.rates.timed(work_names.LOAD, 1):
            start, trust = self.start or recipe.model, recipe.trust_remote_code
            return models.load(
                start, recipe.folder, dtype=dtype, quantize=quantize, trust=trust, merge=True, on_device=True
            )[0]

    def load_reference(self, spec: str) -> Any:
        """Return a reference that the recipe names."""
        return models.load(spec, self.recipe.folder, trust=self.recipe.trust_remote_code, merge=True)[0]

    def reference_of(self, trial: Trial) -> OtherReference | None:
        """Return the reference of a trial, if it has other weights than the model that the trial starts from."""
        other = self.references.get(trial.variant.reference or "")
        return None if other is None or other.weights == self.weights else other

    def load_trained(self, name: str) -> Any:
        """Return a trial's model from its checkpoint; see `load_checkpoint`."""
        return self.load_checkpoint(self.folder / name / "checkpoint")

    def load_checkpoint(self, folder: Path) -> Any:
        """Return the model in a folder, on this process's device; or a `ShardedModel`, which all processes load."""
        model = models.load(str(folder.resolve()), Path(), trust=self.recipe.trust_remote_code)[0]
        return shard_model(model) if are_models_sharded() else model.to(process_state().device)

    def answering(self, model: Any, folder: Path) -> Any:
        """Return a model in the precision in which answers are generated: bf16 where the machine has it.

        Args:
            model: whole, and then cast in place; or sharded, and then loaded again.
            folder: where it is.
        """
        if not native_bf16():
            return model
        if not isinstance(model, ShardedModel):
            return model.to(torch.bfloat16)
        again = models.load(str(folder.resolve()), Path(), trust=self.recipe.trust_remote_code)[0]
        return shard_model(again.to(torch.bfloat16))


def open_experiment(request: Request, recipe: Recipe, console: Console) -> Experiment:
    """Load a recipe's model and data, and check that the data can feed every trial.

    Args:
        request: what was asked for.
        recipe: the request's recipe, read.
        console: where progress goes.

    Returns:
        The experiment. All processes call this; the main process loads first.

    Raises:
        UserError: the model, the data or the split for validation is not as it must be.
    """
    folder, trials = request.folder(recipe.name), {t.name: t for t in search.expand(recipe)}
    for name in (BASE, *trials):
        atomic_files.resolve_inside(folder, name)
    sharded, frozen_bf16 = are_models_sharded(), _may_be_bf16(list(trials.values()))
    load = partial(
        models.load, recipe.model, recipe.folder, dtype=None if sharded and frozen_bf16 else torch.float32,
        trust=recipe.trust_remote_code, merge=True, on_device=True,
    )  # fmt: skip
    with stage(f"loading {recipe.model}", "models", console), process_state().main_process_first():
        model, tokenizer = load()
        model = model if sharded else model.to(process_state().device)
    weights, vocabulary = in_main(lambda: models.fingerprint(model), alone=sharded), models.tokenizer_hash(tokenizer)
    check_model(recipe.model, model, list(trials.values()), console)
    prompts = load_prompts(recipe.evals.prompts, recipe.folder) if recipe.evals.prompts else []
    check_rendered(prompts, tokenizer, recipe.data.chat_template_kwargs, f"evals.prompts: {recipe.evals.prompts}")
    read = read_data(recipe, tokenizer, prompts, console)
    validation_data = read.pop("validation", None)
    pairs, held_out, audits, bad_rows = _data_of(recipe, read, console)
    check_variants(recipe, pairs)
    tried = [pick(one, key=len) for one in (pairs, held_out) if one for pick in (max, min)]
    layout = in_main(lambda: choose_layout(model, tried), alone=sharded)
    for line in [*([NOTES[layout]] if layout in NOTES else []), *left_out(model)]:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    train, validation = split_validation(recipe, validation_data, pairs, held_out, bad_rows)
    base = Base(lambda: load()[0], frozen_bf16=frozen_bf16, loaded=model, sharded=sharded)
    references = read_references(recipe, list(trials.values()), model, tokenizer, layout, pairs, console)
    return Experiment(
        recipe, folder, console, trials, tokenizer, base, weights, vocabulary, train, validation, held_out, prompts,
        layout, audits, bad_rows, request.save_every, references,
        read_pair_weights(recipe, list(trials.values()), train),
    )  # fmt: skip


def _data_of(
    recipe: Recipe, read: Mapping[str, AuditedData], console: Console
) -> tuple[Sequence[TokenExample], Sequence[TokenPair], dict[str, Any], dict[str, list[BadRow]]]:
    """Return the training pairs, the held-out pairs, and the audits and unused rows of both data sets."""
    audits = {use: asdict(data.audit) for use, data in read.items()}
    bad_rows = {use: data.left_out for use, data in read.items()}
    pairs: Sequence[TokenExample] = read["train"].tokens.examples
    held_out: Sequence[TokenPair] = ()
    _print_audit(console, "training", unit(pairs), read["train"].audit)
    if "eval" in read:
        fault = f"data.eval: {recipe.data.eval_spec} has single labelled answers; held-out data must be pairs"
        held_out = only_pairs(read["eval"].tokens.examples, fault)
        _print_audit(console, "held-out", unit(held_out), read["eval"].audit)
    return pairs, held_out, audits, bad_rows


def _print_audit(console: Console, use: str, noun: str, audit: Audit) -> None:
    lost = "".join(f", {n} {why}" for why, n in audit.counts.items())
    console.print(f"data: {audit.kept} {use} {noun} ({audit.schema}){lost}", soft_wrap=True, markup=False)
    if audit.sources:
        console.print(sources_table(audit.sources))


def _may_be_bf16(trials: Sequence[Trial]) -> bool:
    """Return whether the base is read under autocast to bf16 alone, and does not itself move in small steps."""
    settings = [t.variant.train for t in trials]
    return native_bf16() and all(use_bf16(t) and (t.sync_reference is None or t.lora is not None) for t in settings)


def split_validation(
    recipe: Recipe, read: AuditedData | None, pairs: Sequence[TokenExample], held_out: Sequence[TokenPair],
    bad_rows: dict[str, list[BadRow]],
) -> tuple[Sequence[TokenExample], Sequence[TokenPair]]:  # fmt: skip
    """Split the training data into what is trained on, and the pairs by which settings are chosen.

    Args:
        recipe: its `sweep.validation` is a share of the training prompts, or a data set.
        read: the validation pairs, where they are a data set of their own.
        pairs: the training data.
        held_out: the test split, with which the validation pairs must share none.
        bad_rows: takes those of a data set of its own, under `validation`.

    Returns:
        Training rows, and validation pairs; none of the latter where there is nothing to choose.

    Raises:
        UserError: the validation pairs cannot be told from the test split's, or are no pairs.
    """
    if not any(v.axes for v in recipe.variants.values()):
        return pairs, []
    source = search.settings_of(recipe).validation
    if read is not None:
        bad_rows["validation"] = read.left_out
        train, held = pairs, read.tokens.examples
    else:
        assert not isinstance(source, str)  # otherwise it was read
        train, held = search.split_off(pairs, source)
    validation = only_pairs(
        held,
        "sweep.validation: settings are chosen by accuracy on pairs, and these are single labelled answers; "
        "name a data set of pairs",
    )
    test = {_content(p) for p in held_out}
    shared = sum(_content(p) in test for p in validation)
    if shared:
        origin = source if isinstance(source, str) else f"data.train {recipe.data.train_spec}"
        raise UserError(f"sweep.validation: {shared} pairs of {origin} are in data.eval too; remove them there")
    return train, validation


def _content(pair: TokenPair) -> tuple[tuple[int, ...], ...]:
    return tuple(pair.prompt), tuple(pair.chosen), tuple(pair.rejected)
