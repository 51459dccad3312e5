"""All measurements of one model: margins on held-out pairs, generated answers, judge's verdicts, benchmarks."""

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
from prefzoo.evals.suites.benchmarks import FP32, run_benchmark
from prefzoo.evals.suites.tasks import suite_key
from prefzoo.runtime.cache import cached
from prefzoo.runtime.rates import thread_clock
from prefzoo.runtime.run_folders import write_text


@dataclass(frozen=True)
class Measured:
    """The measurements of one model. Lists are in the order of the held-out pairs or of the prompts.

    Attributes:
        margins: log-ratio margin h of each held-out pair, in nats.
        scores: verifier's score of each answer, from 0 to 1; empty unless every prompt has checks.
        words: number of words of each answer.
        finished: whether each answer ended before the limit on tokens.
        repetition: share of repeated word triples in each answer.
        answers: text of each answer.
        benchmarks: results by task, with the fields of `prefzoo.evals.suites.benchmarks.Benchmark`.
        preferences: judge's preference on each prompt, from 1 (the base wins) to 2 (the model wins); None if missing or
            withheld.
        judge: name of the judge.
        prompt_hash: hash of the judge's prompt; empty for a judge without a prompt.
        missing: number of missing verdicts.
        pairs: further values per held-out pair, by the metric's name.
        tokens: number of tokens of each answer.
        kl: estimate of the KL from the base, in nats, from one sampled answer to each of the first prompts.
        beta: factor by which the loss multiplies margins; None if the loss has no such parameter.
        why_missing: sentence with the number of missing verdicts and the reasons; empty if none is missing.
        failed: reason for each metric that could not be measured, by the metric's name.
        sources: source of each held-out pair; empty if all pairs have one source.
        human: people's mean preference for the model's answer over the base's, from 0 to 1; None without a label.
        labels: for each labelled pair, the index of its prompt, the judge's preference for the second answer over the
            first, and people's preference, both from 0 to 1.
        labels_fault: why the judge's verdicts on labelled pairs cannot be used, with a cure; empty if they can.
        labels_left_out: number of unused rows in the file of labels, by reason.
        games: judge's preference on each prompt in both orders, from 1 to 2, if verdicts are graded as in Arena-Hard;
            `[]` for a prompt whose verdict is missing.
        panel: preferences of each judge of a panel, by the judge's name; None where one is missing.
        drawn: judge's preference in the one order that AlpacaEval draws for each prompt; empty for other judges.
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
        """Whether the judge's number is withheld because too many verdicts are missing."""
        return bool(self.missing) and all(preference is None for preference in self.preferences)

    @property
    def unstated(self) -> int:
        """Number of missing verdicts over all judges of a panel."""
        return sum(preferences.count(None) for preferences in self.panel.values())


@dataclass(frozen=True)
class HeldOut:
    """The measurements of one model on the held-out pairs.

    Attributes:
        margins: log-ratio margin h of each pair in nats, under one common frozen reference.
        pairs: further values per pair, by the metric's name.
        beta: factor by which the loss multiplies margins; None if the loss has no such parameter.
        failed: reason for each metric that could not be measured, by the metric's name.
    """

    margins: list[float] = field(default_factory=list)
    pairs: dict[str, list[float]] = field(default_factory=dict)
    beta: float | None = None
    failed: dict[str, str] = field(default_factory=dict)


def repetition(text: str) -> float:
    """Return the share of an answer's word triples that already occurred earlier in it."""
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
    """Combine the measurements of one model, and count words and repetition in its answers.

    Args:
        held_out: measurements on the held-out pairs.
        rows: the prompts.
        answers: one answer per prompt.
        judge: verifier that scores the answers, used only if every prompt has checks.
        benchmarks: results by task.
        kl: estimate of the KL from the base, in nats, from one sampled answer to each of the first prompts.

    Returns:
        All measurements of the model.
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
    """Run one benchmark on a model, or read its results from the cache. Failed results are not cached.

    Args:
        model, tokenizer: model to measure, and its tokenizer.
        spec: a suite, a task file or folder, or one of lm-eval's tasks.
        folder: folder to which a path in `spec` is relative.
        depends: further values that the results depend on, like a hash of the model's weights.
        took: called with the seconds (of `thread_clock`) that the benchmark ran; not called if the results come from
            the cache or if a task failed.
        shared: whether all processes run the benchmark together, on a sharded model.

    Returns:
        The results by task, with the fields of `prefzoo.evals.suites.benchmarks.Benchmark`.
    """
    full = {**depends, "suite": spec, "content": suite_key(spec, folder), "shape": 2}
    if model.dtype.itemsize < FP32:  # once log-probs were in the model's precision
        full["logprobs"] = "fp32"

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
    """Write `benchmarks/<suite>.jsonl` in a model's folder: one line {"doc_id", "doc_hash", "score"} per document."""
    for suite, result in measured.benchmarks.items():
        if result.get("samples"):
            lines = "".join(json.dumps(row) + "\n" for row in result["samples"])
            write_text(folder / "benchmarks" / f"{suite}.jsonl", lines)
