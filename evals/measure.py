"""Everything that is measured on one model: preferences on held-out pairs, generated answers, benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evals.benchmarks import run_benchmark
from evals.generate import generate
from evals.judges.checks import words
from evals.judges.protocol import Answer, PromptRow, Scorer
from prefzoo.types import LogProbs


@dataclass(frozen=True)
class Measured:
    """One model's numbers. Lists are aligned with the held-out pairs, or with the prompts.

    Attributes:
        scores: the verifier's, where the prompts carry checks.
        preferences: the judge's against the base, from 1 (the base wins) to 2; None where it is missing or withheld.
        missing: how many verdicts could not be had, also where all were withheld for it.
    """

    margins: list[float]
    scores: list[float]
    words: list[int]
    finished: list[bool]
    repetition: list[float]
    answers: list[str]
    benchmarks: dict[str, dict[str, float]]
    preferences: list[float | None] = field(default_factory=list)
    judge: str = ""
    prompt_hash: str = ""
    missing: int = 0


def preference_margins(policy: LogProbs, reference: LogProbs) -> list[float]:
    """Log-ratio margin h of every held-out pair, in nats, under one common frozen reference."""
    return [float(v) for v in policy.margin - reference.margin]


def repetition(text: str) -> float:
    """Share of word triples that occurred before in the same answer."""
    tokens = [w.lower() for w in words(text)]
    triples = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def answer_all(
    model: Any, tokenizer: Any, rows: Sequence[PromptRow], max_new_tokens: int, progress: Any = None
) -> list[Answer]:
    """One greedy answer per prompt."""
    prompts = [r.prompt for r in rows]
    return [a[0] for a in generate(model, tokenizer, prompts, max_new_tokens=max_new_tokens, progress=progress)]


def measured(
    margins: list[float],
    rows: Sequence[PromptRow],
    answers: Sequence[Answer],
    judge: Scorer,
    benchmarks: dict[str, dict[str, float]],
) -> Measured:
    """Score the answers that can be, and put everything together."""
    checkable = all(row.checks for row in rows)
    return Measured(
        margins=margins,
        scores=[judge.score(row, a) for row, a in zip(rows, answers, strict=True)] if checkable else [],
        words=[len(words(a.text)) for a in answers],
        finished=[a.finished for a in answers],
        repetition=[float(np.round(repetition(a.text), 4)) for a in answers],
        answers=[a.text for a in answers],
        benchmarks=benchmarks,
    )


def run_benchmarks(model: Any, tokenizer: Any, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Each benchmark's value, stderr and n."""
    return {name: run_benchmark(model, tokenizer, name) for name in names}
