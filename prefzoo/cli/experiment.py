"""What the stages of a run share: the recipe, its data, the base's reference log-probs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from evals.judges.protocol import PromptRow
from prefzoo import reference
from prefzoo.base import Base
from prefzoo.data.batches import Layout
from prefzoo.data.tokens import TokenPair
from prefzoo.launch import collected, processes, stretch
from prefzoo.progress import stage
from prefzoo.recipe import Recipe
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
    pairs: list[TokenPair]
    held_out: list[TokenPair]
    layout: Layout
    prompts: list[PromptRow]
    save_every: float
    seeds: tuple[int, ...] = ()


def logprobs_of(
    run: Run, base: Base, weights: str, pairs: list[TokenPair], what: str, kind: type[LogProbs] = LogProbs, *,
    bf16: bool,
) -> LogProbs:  # fmt: skip
    """Log-probs of pairs under the base, or another with these weights, from the user's cache where they are known.

    All processes call this, and each scores a stretch of the pairs.
    """
    file = reference.cache_file(weights, pairs, kind, run.layout, bf16=bf16)
    cached = reference.read(file, kind, lambda line: run.console.print(line, soft_wrap=True, markup=False))
    if all(collected(cached is not None)):
        assert cached is not None
        return cached
    first, end = stretch(len(pairs))
    own = None
    with stage(what, "pairs", run.console) as report:
        if first < end:
            own = reference.logprobs(base.model, pairs[first:end], run.layout, kind, bf16=bf16, report=report)
    values = reference.joined([part for part in collected(own) if part is not None])
    if processes().is_main_process:
        reference.write(file, values)
    return values
