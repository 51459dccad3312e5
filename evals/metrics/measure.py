"""Everything that is measured on one model: preferences on held-out pairs, generated answers, benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prefzoo.evals.judges.checks import words
from prefzoo.evals.judges.protocol import Answer, PromptRow
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics import preference
from prefzoo.evals.suites.benchmarks import run_benchmark
from prefzoo.evals.suites.tasks import suite_key
from prefzoo.runtime.cache import cached
from prefzoo.runtime.run_folders import write_text
from prefzoo.types import LogProbs, VocabLogProbs


@dataclass(frozen=True)
class Measured:
    """One model's numbers. Lists are aligned with the held-out pairs, or with the prompts.

    Attributes:
        scores: the verifier's, where the prompts carry checks.
        preferences: the judge's against the base, from 1 (the base wins) to 2; None where it is missing or withheld.
        missing: how many verdicts could not be had, also where all were withheld for it.
        pairs: further values per held-out pair, by the metric's name.
        tokens: of each answer.
        kl: from the base, of one answer drawn for each of the first prompts, in nats.
        benchmarks: by task, as `evals.benchmarks.Benchmark` has it.
        beta: what the loss multiplies its margins by, where it has such a parameter.
    """

    margins: list[float]
    scores: list[float]
    words: list[int]
    finished: list[bool]
    repetition: list[float]
    answers: list[str]
    benchmarks: dict[str, dict[str, Any]]
    preferences: list[float | None] = field(default_factory=list)
    judge: str = ""
    prompt_hash: str = ""
    missing: int = 0
    pairs: dict[str, list[float]] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    beta: float | None = None


@dataclass(frozen=True)
class OnPairs:
    """Held-out pairs under a model: log-ratio margins h in nats under one common frozen reference, and what else."""

    margins: list[float] = field(default_factory=list)
    pairs: dict[str, list[float]] = field(default_factory=dict)
    beta: float | None = None


def preference_margins(policy: LogProbs, reference: LogProbs) -> list[float]:
    """Log-ratio margin h of every held-out pair, in nats, under one common frozen reference."""
    return [float(v) for v in policy.margin - reference.margin]


def on_pairs(policy: VocabLogProbs, reference: LogProbs, beta: float | None) -> OnPairs:
    """All that is kept of held-out pairs, in their order."""
    values = {
        "length_normalised_accuracy": preference.length_normalised_accuracy(policy),
        "chosen_displacement": preference.displacement(policy, reference),
        "entropy": preference.entropy(policy),
    }
    rounded = {name: [float(np.round(v, 6)) for v in found] for name, found in values.items()}
    return OnPairs(preference_margins(policy, reference), rounded, beta)


def repetition(text: str) -> float:
    """Share of word triples that occurred before in the same answer."""
    tokens = [w.lower() for w in words(text)]
    triples = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def measured(
    held_out: OnPairs,
    rows: Sequence[PromptRow],
    answers: Sequence[Answer],
    judge: Verifier,
    benchmarks: dict[str, dict[str, Any]],
    kl: Sequence[float] = (),
) -> Measured:
    """Score the answers that can be, and put everything together."""
    checkable = all(row.checks for row in rows)
    return Measured(
        margins=held_out.margins,
        scores=[judge.score(row, a) for row, a in zip(rows, answers, strict=True)] if checkable else [],
        words=[len(words(a.text)) for a in answers],
        finished=[a.finished for a in answers],
        repetition=[float(np.round(repetition(a.text), 4)) for a in answers],
        answers=[a.text for a in answers],
        benchmarks=benchmarks,
        pairs=held_out.pairs,
        tokens=[a.tokens for a in answers],
        kl=list(kl),
        beta=held_out.beta,
    )


def run_benchmarks(
    model: Any, tokenizer: Any, spec: str, folder: Path, depends: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """`evals.benchmarks.run_benchmark` of one benchmark, kept by what it `depends` on; what failed is not kept."""
    full = {**depends, "suite": spec, "content": suite_key(spec, folder), "shape": 2}

    def make() -> dict[str, dict[str, Any]]:
        return run_benchmark(model, tokenizer, spec, folder=folder)

    found: dict[str, dict[str, Any]] = cached(
        "benchmark", full, make, lambda v: not any(r["reason"] for r in v.values())
    )
    return found


def write_samples(folder: Path, m: Measured) -> None:
    """`benchmarks/<suite>.jsonl` in a model's folder: a line {"doc_id", "doc_hash", "score"} per document."""
    for suite, result in m.benchmarks.items():
        if result.get("samples"):
            lines = "".join(json.dumps(row) + "\n" for row in result["samples"])
            write_text(folder / "benchmarks" / f"{suite}.jsonl", lines)
