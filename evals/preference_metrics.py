"""What held-out pairs and generated answers say of a model beyond accuracy and margin.

Functions give one value per pair or answer, so that `stats.mean` and paired differences apply; all are in nats, shares
or tokens. Higher is better only where a name ends in `accuracy`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit
from torch import Tensor

from evals import stats
from evals.judges.protocol import Answer
from evals.measure import repetition
from evals.stats import Estimate, Values
from prefzoo.types import LogProbs, VocabLogProbs

BINS = 10
HALF = 0.5


def _array(values: Tensor) -> Values:
    return values.detach().double().cpu().numpy()


def _right(margins: Values) -> Values:
    return np.asarray(HALF + HALF * np.sign(margins))


def accuracy(policy: LogProbs, reference: LogProbs) -> Values:
    r"""(B,) 1 where $h = (c - r) - (c_0 - r_0) > 0$, a half for a tie: the implicit reward's."""
    return _right(_array(policy.margin - reference.margin))


def length_normalised_accuracy(policy: LogProbs, reference: LogProbs | None = None) -> Values:
    r"""(B,) the same of means per token, $c/|c| - r/|r|$, so that a longer answer is no less likely by its length.

    Without a reference it is the policy's own ranking, as SimPO and ORPO train it.
    """
    margins = policy.per_token().margin
    return _right(_array(margins if reference is None else margins - reference.per_token().margin))


def calibration_error(policy: LogProbs, reference: LogProbs, beta: float, bins: int = BINS) -> float:
    r"""Expected calibration error of $\sigma(\beta h)$ as the probability that the labelled answer is the better one.

    $$ ECE = \sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b| $$

    (Guo 2017, arXiv:1706.04599) over equal bins of the confidence max(p, 1 - p), from one half to one.
    """
    p = expit(beta * _array(policy.margin - reference.margin))
    confidence, right = np.maximum(p, 1 - p), _right(p - HALF)
    where = np.minimum(((confidence - HALF) / HALF * bins).astype(int), bins - 1)
    gap = np.bincount(where, right - confidence, minlength=bins)  # n_b * (acc_b - conf_b)
    return float(np.abs(gap).sum() / len(p)) if len(p) else np.nan


def displacement(policy: LogProbs, reference: LogProbs) -> Values:
    r"""(B,) $c - c_0$ per token: below 0 the chosen answer itself became less likely (likelihood displacement)."""
    return _array(policy.per_token().chosen - reference.per_token().chosen)


def displaced(policy: LogProbs, reference: LogProbs) -> Values:
    """(B,) 1 where the chosen answer became less likely than under the reference, else 0."""
    return (displacement(policy, reference) < 0).astype(float)


def entropy(policy: VocabLogProbs) -> Values:
    """(B,) mean entropy in nats of the next-token distribution along the chosen answer."""
    return _array(policy.chosen_entropy.sum(-1) / policy.chosen_len.clamp(min=1))


def ending_logprob(policy: VocabLogProbs) -> Values:
    """(B,) log-prob of the chosen answer's last token, its end of turn: what falls before answers stop ending."""
    last = (policy.chosen_len - 1).clamp(min=0)[:, None]
    return _array(policy.chosen_tokens.gather(-1, last)[:, 0])


def length_ratio(ours: Sequence[Answer], theirs: Sequence[Answer]) -> float:
    """Tokens of all our answers over those of theirs, to the same prompts; NaN where theirs are empty."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} answers: they must be to the same prompts")
    total = sum(a.tokens for a in theirs)
    return sum(a.tokens for a in ours) / total if total else np.nan


def repetitions(answers: Sequence[Answer]) -> Values:
    """(n,) share of word triples that occurred before in the same answer."""
    return np.array([repetition(a.text) for a in answers])


def eos(answers: Sequence[Answer]) -> Values:
    """(n,) 1 where the model ended the answer by itself, 0 where the limit on tokens did."""
    return np.array([float(a.finished) for a in answers])


def on_pairs(policy: LogProbs, reference: LogProbs, beta: float, seed: int = 0) -> dict[str, Estimate]:
    """All metrics of held-out pairs, with intervals over pairs; entropy and ending where the vocabulary was scored."""
    values = {
        "preference_accuracy": accuracy(policy, reference),
        "length_normalised_accuracy": length_normalised_accuracy(policy, reference),
        "chosen_displacement": displacement(policy, reference),
        "chosen_displaced": displaced(policy, reference),
    }
    if isinstance(policy, VocabLogProbs):
        values |= {"entropy": entropy(policy), "ending_logprob": ending_logprob(policy)}
    found = {name: stats.mean(v, seed) for name, v in values.items()}
    return found | {"calibration_error": _calibration(policy, reference, beta, seed)}


def _calibration(policy: LogProbs, reference: LogProbs, beta: float, seed: int) -> Estimate:
    """The error has no value per pair, so pairs are resampled; the interval leans upward, as noise only adds to it."""
    value, n = calibration_error(policy, reference, beta), len(policy)
    if not n:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0)
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, n, size=(stats.RESAMPLES // 20, n))
    again = [calibration_error(_taken(policy, rows), _taken(reference, rows), beta) for rows in draws]
    low, high = np.percentile(again, (2.5, 97.5))
    return Estimate(value, float(np.std(again, ddof=1)), float(low), float(high), n)


def _taken(values: LogProbs, rows: Values) -> LogProbs:
    at = rows.tolist()
    return LogProbs(values.chosen[at], values.rejected[at], values.chosen_len[at], values.rejected_len[at])


def on_answers(ours: Sequence[Answer], base: Sequence[Answer], seed: int = 0) -> dict[str, Estimate]:
    """All metrics of generated answers, with intervals over prompts (the ratio's by resampling prompts)."""
    value, n = length_ratio(ours, base), len(ours)
    mine, theirs = (np.array([float(a.tokens) for a in answers]) for answers in (ours, base))
    rows = np.random.default_rng(seed).integers(0, max(n, 1), size=(stats.RESAMPLES, n))
    totals = theirs[rows].sum(1)
    again = mine[rows].sum(1)[totals > 0] / totals[totals > 0]
    low, high = np.percentile(again, (2.5, 97.5)) if len(again) else (np.nan, np.nan)
    spread = float(np.std(again, ddof=1)) if len(again) else np.nan
    return {
        "length_ratio": Estimate(value, spread, float(low), float(high), n),
        "repetition": stats.mean(repetitions(ours), seed),
        "eos_rate": stats.mean(eos(ours), seed),
    }
