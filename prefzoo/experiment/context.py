"""An experiment: a recipe, read and loaded in this process, that all stages share.

This module imports no torch, so that a check from cached facts does not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from prefzoo.data.batches import Layout
from prefzoo.data.faults import BadRow
from prefzoo.data.mixtures import Origins, SourceCounts
from prefzoo.data.tokens import TokenExample, TokenPair
from prefzoo.engine.precision import native_bf16, to_bf16
from prefzoo.evals.judges.protocol import PromptRow
from prefzoo.experiment import work_names
from prefzoo.experiment.search import Trial
from prefzoo.recipe.load import Recipe
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.lazy_torch import Tensor, torch
from prefzoo.runtime.rates import Rates

if TYPE_CHECKING:
    from prefzoo.engine.base_model import Base
    from prefzoo.experiment.references import OtherReference


@dataclass(frozen=True)
class Experiment:
    """One recipe, read and loaded.

    Attributes:
        folder: of the run.
        trials: every training, by name; of a recipe without seeds and grids, one per variant.
        tokenizer, base: of the untrained model.
        weights, vocabulary: hashes that identify the base model and its tokenizer.
        pairs: the training pairs.
        validation: pairs for choosing settings; empty if there is nothing to choose.
        held_out, prompts: the test split.
        audits: the content of `data_audit.json`: an audit of each data set by its use.
        bad_rows: the rows of each data set, by its use, that were left out: unusable ones, and those of `data.drop`.
        save_every: seconds between two checkpoints of a training.
        references: the references that are named apart from the model, by the recipe's name of them.
        pair_weights: by column, (P,) weights of the training pairs in the mean loss.
        start: the model that policies start from, if it is not the recipe's.
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
        """Measured times of this model's work on this machine."""
        return Rates(self.weights)

    @cached_property
    def without_test_split(self) -> Experiment:
        """The experiment as trainings see it, without the test split."""
        return replace(self, held_out=[], prompts=[])

    @cached_property
    def training_rows(self) -> str:
        """Hash of the training pairs."""
        from prefzoo.engine.reference_logprobs import rows_key

        return rows_key(self.pairs)

    @cached_property
    def validation_rows(self) -> str:
        """Hash of the validation pairs."""
        from prefzoo.engine.reference_logprobs import rows_key

        return rows_key(self.validation)

    @cached_property
    def held_out_rows(self) -> str:
        """Hash of the held-out pairs; empty without any."""
        from prefzoo.engine.reference_logprobs import rows_key

        return rows_key(self.held_out) if self.held_out else ""

    @cached_property
    def scores(self) -> str:
        """Hash of the scores of the training pairs, which that of the rows leaves out."""
        return key_of([(pair.scores, pair.quantiles) for pair in self.pairs if isinstance(pair, TokenPair)])

    @cached_property
    def sampled_prompts(self) -> list[PromptRow]:
        """The prompts that every round samples answers to."""
        from prefzoo.experiment.round_prompts import prompts_to_sample

        return prompts_to_sample(self.recipe, self.pairs, self.tokenizer)

    def load_base(self, quantize: str | None = None, *, stored: bool = False, anew: bool = False) -> Any:
        """Return a new copy of the untrained model.

        Args:
            quantize: how it is quantised, if it is.
            stored: whether its weights are read in the precision of their file; otherwise in fp32.
            anew: whether it is loaded even if the base is in memory.

        Returns:
            A copy of the base in memory if that stays there, else what is loaded.
        """
        from prefzoo.engine import models

        copied = None if quantize or stored or anew else self._copy_of_base()
        if copied is not None:
            return copied
        recipe, dtype = self.recipe, None if stored else torch.float32
        with self.rates.timed(work_names.LOAD, 1):
            start, trust = self.start or recipe.model, recipe.trust_remote_code
            return models.load(
                start, recipe.folder, dtype=dtype, quantize=quantize, trust=trust, merge=True, on_device=True
            )[0]

    def _copy_of_base(self) -> Any:
        from prefzoo.runtime.memory import is_out_of_memory

        try:
            return self.base.copy()
        except (RuntimeError, MemoryError) as e:
            if not is_out_of_memory(e):
                raise
        self.base.give_up()
        return None

    def load_reference(self, spec: str) -> Any:
        """Return a reference that the recipe names."""
        from prefzoo.engine import models

        recipe = self.recipe
        return models.load(spec, recipe.folder, trust=recipe.trust_remote_code, merge=True, on_device=True)[0]

    def reference_of(self, trial: Trial) -> OtherReference | None:
        """Return the reference of a trial, if it has other weights than the model that the trial starts from."""
        other = self.references.get(trial.variant.reference or "")
        return None if other is None or other.weights == self.weights else other

    def load_trained(self, name: str) -> Any:
        """Return a trial's model from its checkpoint; see `load_checkpoint`."""
        return self.load_checkpoint(self.folder / name / "checkpoint")

    def load_checkpoint(self, folder: Path) -> Any:
        """Return the model in a folder, on this process's device; or a `ShardedModel`, which all processes load."""
        from prefzoo.engine import models
        from prefzoo.engine.sharded_model import are_models_sharded, shard_model
        from prefzoo.runtime.distributed import process_state

        whole = not (folder / "adapter_config.json").is_file()  # whose file does not tell its model's size
        trust = self.recipe.trust_remote_code
        model = models.load(str(folder.resolve()), Path(), trust=trust, on_device=whole)[0]
        return shard_model(model) if are_models_sharded() else model.to(process_state().device)

    def answering(self, model: Any, folder: Path) -> Any:
        """Return a model in the precision for generating answers: bf16 if the machine supports it.

        Args:
            model: whole, and then cast in place; or sharded, and then loaded again.
            folder: where it is.
        """
        from prefzoo.engine import models
        from prefzoo.engine.sharded_model import ShardedModel, shard_model

        if not native_bf16():
            return model
        if not isinstance(model, ShardedModel):
            return to_bf16(model)
        again = models.load(str(folder.resolve()), Path(), trust=self.recipe.trust_remote_code)[0]
        return shard_model(to_bf16(again))
