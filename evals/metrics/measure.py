"""Everything that is measured on one model: preferences on held-out pairs, generated answers, benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prefzoo.evals.judges.checks import words
from prefzoo.evals.judges.protocol import Answer, PromptRow
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.suites.benchmarks import run_benchmark
from prefzoo.evals.suites.tasks import suite_key
from prefzoo.runtime.cache import cached
from prefzoo.runtime.rates import thread_clock
from prefzoo.runtime.run_folders import write_text


@dataclass(frozen=True)
class Measured:
    """One model's numbers. Lists are aligned with the held-out pairs, or with the prompts.

    Attributes:
        margins: log-ratio margin h of each held-out pair, in nats.
        scores: the verifier's, if all prompts have checks.
        words, finished, repetition, answers, tokens: of each answer.
        benchmarks: results by task, as `prefzoo.evals.suites.benchmarks.Benchmark` has them.
        preferences: the judge's against the base, from 1 (the base wins) to 2; None if missing or withheld.
        missing: how many verdicts are missing.
        why_missing: how many of how many, and why, in words; empty where none is.
        failed: why a metric could not be measured, by its name.
        pairs: further values per held-out pair, by the metric's name.
        sources: the source of each held-out pair; empty where there is one source.
        kl: divergence from the base of one sampled answer to each of the first prompts, in nats.
        beta: what the loss multiplies its margins by; None if it has no such parameter.
        human: people's mean preference for the model's answer against the base's, from 0 to 1; None without a label.
        labels: of each labelled pair the number of its prompt, how far the judge prefers the second answer to the
            first, from 0 to 1, and how far people do.
        games: of each prompt the judge's preference in both orders, where its verdicts are graded as Arena-Hard's.
        panel: of each judge of a panel its own preferences, by its name; None where one is missing.
        drawn: the judge's preference in the one order that AlpacaEval draws for the prompt, where it has such verdicts.
        labels_fault: why the judge's verdicts on labelled pairs are of no use, with a cure; empty if they are.
        labels_left_out: how many rows of the labels' file are not used, by reason.
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
    why_missing: str = ""
    failed: dict[str, str] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    human: list[float | None] = field(default_factory=list)
    labels: list[list[float]] = field(default_factory=list)
    labels_fault: str = ""
    labels_left_out: dict[str, int] = field(default_factory=dict)
    games: list[list[float]] = field(default_factory=list)
    panel: dict[str, list[float | None]] = field(default_factory=dict)
    drawn: list[float | None] = field(default_factory=list)

    @property
    def withheld(self) -> bool:
        """Whether so many verdicts are missing that the judge's number is withheld."""
        return bool(self.missing) and all(preference is None for preference in self.preferences)

    @property
    def unstated(self) -> int:
        """How many verdicts the judges of a panel did not give."""
        return sum(preferences.count(None) for preferences in self.panel.values())


@dataclass(frozen=True)
class HeldOut:
    """What was measured on the held-out pairs.

    Attributes:
        margins: log-ratio margin h of each pair in nats, under one common frozen reference.
        pairs: further values per pair, by the metric's name.
        beta: what the loss multiplies its margins by; None if it has no such parameter.
        failed: why a metric could not be measured, by its name.
    """

    margins: list[float] = field(default_factory=list)
    pairs: dict[str, list[float]] = field(default_factory=dict)
    beta: float | None = None
    failed: dict[str, str] = field(default_factory=dict)


def repetition(text: str) -> float:
    """Return the share of word triples that occurred before in the same answer."""
    tokens = [w.lower() for w in words(text)]
    triples = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def measured(
    held_out: HeldOut,
    rows: Sequence[PromptRow],
    answers: Sequence[Answer],
    judge: Verifier,
    benchmarks: dict[str, dict[str, Any]],
    kl: Sequence[float] = (),
) -> Measured:
    """Put together all that is known of one model.

    Args:
        held_out: what was measured on the held-out pairs.
        rows: the prompts.
        answers: one per prompt.
        judge: scores the answers, if every prompt has checks.
        benchmarks: results by task.
        kl: divergence from the base of one sampled answer to each of the first prompts, in nats.

    Returns:
        The model's numbers, with what can be counted in the answers.
    """
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
        failed=held_out.failed,
    )


def run_benchmarks(
    model: Any, tokenizer: Any, spec: str, folder: Path, depends: Mapping[str, Any],
    took: Callable[[float], None] | None = None, *, shared: bool = False,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Run one benchmark on a model, or take its results from the cache; results of a failure are not cached.

    Args:
        model, tokenizer: what to run it on.
        spec: a suite, a task file or folder, or one of lm-eval's tasks.
        folder: what a path in `spec` is relative to.
        depends: what else the results depend on, like the model's weights.
        took: called with the seconds, of `thread_clock`, of a benchmark that was run; not of a cached one.
        shared: whether all processes run it together, on a model that is sharded.

    Returns:
        The results by task, as `prefzoo.evals.suites.benchmarks.Benchmark` has them.
    """
    full = {**depends, "suite": spec, "content": suite_key(spec, folder), "shape": 2}

    def make() -> dict[str, dict[str, Any]]:
        start = thread_clock()
        results = run_benchmark(model, tokenizer, spec, folder=folder)
        if took is not None and _is_whole(results):
            took(thread_clock() - start)
        return results

    results: dict[str, dict[str, Any]] = cached("benchmark", full, make, _is_whole, shared=shared)
    return results


def _is_whole(results: Mapping[str, Mapping[str, Any]]) -> bool:
    return not any(r["reason"] for r in results.values())


def write_samples(folder: Path, measured: Measured) -> None:
    """Write `benchmarks/<suite>.jsonl` in a model's folder: a line {"doc_id", "doc_hash", "score"} per document."""
    for suite, result in measured.benchmarks.items():
        if result.get("samples"):
            lines = "".join(json.dumps(row) + "\n" for row in result["samples"])
            write_text(folder / "benchmarks" / f"{suite}.jsonl", lines)
