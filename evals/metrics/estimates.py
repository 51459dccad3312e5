"""A model's numbers with their intervals, from what was measured prompt by prompt and pair by pair."""

from __future__ import annotations

import numpy as np

from prefzoo.evals.metrics import preference
from prefzoo.evals.metrics.benchmark_deltas import benchmark_estimate
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Estimate, Values

HALF = 0.5
HIGHER = {
    "win_rate": True, "win_rate_lc": True, "score": True, "preference_accuracy": True, "preference_margin": True,
    "length_normalised_accuracy": True, "calibration_error": False,
}  # fmt: skip
DIAGNOSTICS = (
    "preference_margin", "length_normalised_accuracy", "calibration_error", "chosen_displacement", "entropy", "kl",
    "length_ratio", "repetition", "finished",
)  # fmt: skip
PLAIN = {
    "words": 1, "preference_margin": 1, "chosen_displacement": 3, "entropy": 2, "kl": 2, "length_ratio": 2,
    "calibration_error": 3, "perplexity": 3,
}  # numbers that are no shares, and their digits # fmt: skip
UNITS = (
    "Margin, KL (from the base, on the variant's own sampled answers) and entropy in nats; displacement in nats per "
    "token of the chosen answer, below 0 where it became less likely; calibration error of sigma(beta h); length ratio "
    "in tokens against the base; repetition: share of word triples said before; finished: ended by themselves. "
    "Differences from the base on benchmarks: by document, in points (perplexity: bits per byte), p after Holm."
)


def outcomes(m: Measured, base: Measured | None) -> Values:
    """What ranks a model: per prompt its wins against the base, else per held-out pair whether it was right."""
    if m.preferences:
        return np.array(m.preferences, dtype=float) - 1
    if m.scores and base is not None:
        return intervals.wins(np.array(m.scores), np.array(base.scores))
    return _right(m)


def estimates(m: Measured, base: Measured | None) -> dict[str, Estimate]:
    """Every metric of a model; `base` is None for the base itself."""
    return _of_prompts(m, base) | _of_pairs(m, base) | _of_answers(m, base) | _of_benchmarks(m)


def _right(m: Measured) -> Values:
    return np.asarray(HALF + HALF * np.sign(np.array(m.margins)))


def _of_prompts(m: Measured, base: Measured | None) -> dict[str, Estimate]:
    out = {}
    if m.preferences:
        out["win_rate"] = intervals.share_won(outcomes(m, base))
    elif m.scores and base is not None:
        out["win_rate"] = intervals.win_rate(np.array(m.scores), np.array(base.scores))
    if m.scores:
        out["score"] = intervals.mean(np.array(m.scores))
    return out


def _of_pairs(m: Measured, base: Measured | None) -> dict[str, Estimate]:
    if not m.margins or base is None:
        return {}
    margins = np.array(m.margins)
    out = {"preference_accuracy": intervals.mean(_right(m)), "preference_margin": intervals.mean(margins)}
    out |= {metric: intervals.mean(np.array(values)) for metric, values in m.pairs.items()}
    return out if m.beta is None else out | {"calibration_error": preference.calibration(margins, m.beta)}


def _of_answers(m: Measured, base: Measured | None) -> dict[str, Estimate]:
    if not m.words:
        return {}
    out = {
        "words": intervals.mean(np.array(m.words, dtype=float)),
        "repetition": intervals.mean(np.array(m.repetition)),
        "finished": intervals.proportion(sum(m.finished), len(m.finished)),
    }
    if base is not None and m.tokens and base.tokens:
        ours, theirs = np.array(m.tokens, dtype=float), np.array(base.tokens, dtype=float)
        out["length_ratio"] = preference.length_ratio(ours, theirs)
    return out | ({"kl": intervals.mean(np.array(m.kl))} if m.kl else {})


def _of_benchmarks(m: Measured) -> dict[str, Estimate]:
    return {suite: benchmark_estimate(r) for suite, r in m.benchmarks.items()}
