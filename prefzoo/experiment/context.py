"""What the stages of a run share: the recipe, its data, the base's reference log-probs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from prefzoo.data.batches import Layout
from prefzoo.data.tokens import TokenExample, TokenPair
from prefzoo.engine import reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.evals.judges.protocol import PromptRow
from prefzoo.recipe.load import Recipe
from prefzoo.runtime.distributed import all_gather, process_state, shard_range
from prefzoo.runtime.progress import stage
from prefzoo.types import LogProbs


@dataclass(frozen=True)
class Run:
    """One recipe, read and loaded.

    Attributes:
        weights, vocabulary: what identifies the base model and its tokenizer.
        save_every: seconds between two checkpoints of a training.
        seeds: of all trainings that share the reference's log-probs; empty: the recipe's alone.
    """

    recipe: Recipe
    folder: Path
    console: Console
    tokenizer: Any
    weights: str
    vocabulary: str
    pairs: Sequence[TokenExample]
    held_out: list[TokenPair]
    layout: Layout
    prompts: list[PromptRow]
    save_every: float
    seeds: tuple[int, ...] = ()


def logprobs_of(
    run: Run, base: Base, weights: str, pairs: Sequence[TokenExample], what: str, kind: type[LogProbs] = LogProbs, *,
    bf16: bool,
) -> LogProbs:  # fmt: skip
    """Log-probs of pairs under the base, or another with these weights, from the user's cache where they are known.

    All processes call this, and each scores a stretch of the pairs.
    """
    file = reference_logprobs.cache_file(weights, pairs, kind, run.layout, bf16=bf16)
    cached = reference_logprobs.read_cached(
        file, kind, lambda line: run.console.print(line, soft_wrap=True, markup=False)
    )
    if all(all_gather(cached is not None)):
        assert cached is not None
        return cached
    first, end = shard_range(len(pairs))
    own = None
    with stage(what, "pairs", run.console) as report:
        if first < end:
            own = reference_logprobs.logprobs(base.model, pairs[first:end], run.layout, kind, bf16=bf16, report=report)
    values = reference_logprobs.concatenate([part for part in all_gather(own) if part is not None])
    if process_state().is_main_process:
        reference_logprobs.write_cached(file, values)
    return values
