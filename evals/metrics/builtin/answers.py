"""Metrics of generated answers: length, repetition, share that finished, and KL from the base."""

from __future__ import annotations

import numpy as np

from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, RowsFunction, register
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Estimate, Values


def length_ratio(ours: Values, theirs: Values, seed: int = 0) -> Estimate:
    """Divide the total tokens of our answers by those of theirs, with a bootstrap interval over prompts.

    Args:
        ours: (n,) number of tokens of each of our answers.
        theirs: (n,) number of tokens of each of their answers to the same prompts.
        seed: seed of the bootstrap.

    Returns:
        The estimate; NaN if their answers have no tokens.

    Raises:
        ValueError: the numbers of answers differ.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} answers: they must be to the same prompts")
    n = len(ours)
    if not theirs.sum() > 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, n)
    rows = np.random.default_rng(seed).integers(0, n, size=(intervals.RESAMPLES, n))
    totals = theirs[rows].sum(1)
    ratios = ours[rows].sum(1)[totals > 0] / totals[totals > 0]
    return intervals.of_resamples(float(ours.sum() / theirs.sum()), ratios, n)


def _length_ratio(measured: Measured, base: Measured | None) -> Estimate | None:
    if base is None or not measured.tokens or not base.tokens:
        return None
    return length_ratio(np.array(measured.tokens, dtype=float), np.array(base.tokens, dtype=float))


def _finished(measured: Measured, _: Measured | None) -> Estimate | None:
    return intervals.proportion(sum(measured.finished), len(measured.finished)) if measured.finished else None


def _field(name: str) -> RowsFunction:
    """Return a `rows` function that reads a list of `Measured` by its name."""

    def rows(measured: Measured, _: Measured | None) -> Values | None:
        values = getattr(measured, name)
        return np.array(values, dtype=float) if values else None

    return rows


WORDS = register(Metric("words", "words", "prompts", description="mean length of the answers", position=8,
                        rows=_field("words")))  # fmt: skip
KL = register(Metric(
    "kl", "KL", "prompts", "nats", digits=2, needs_baseline=True, diagnostic=True, base_value=0.0, position=15,
    description="KL from the base, estimated on the variant's own sampled answers, in nats", rows=_field("kl"),
))  # fmt: skip
LENGTH_RATIO = register(Metric(
    "length_ratio", "length ratio", "prompts", digits=2, needs_baseline=True, diagnostic=True, position=16,
    base_value=1.0, description="tokens of all answers divided by those of the base", estimator=_length_ratio,
))  # fmt: skip
REPETITION = register(Metric(
    "repetition", "repetition", "prompts", percent=True, diagnostic=True, position=17,
    description="share of word triples that already occurred in the same answer", rows=_field("repetition"),
))  # fmt: skip
FINISHED = register(Metric(
    "finished", "finished", "prompts", percent=True, diagnostic=True, position=18, estimator=_finished,
    description="share of answers that ended before the limit on tokens", rows=_field("finished"),
))  # fmt: skip
