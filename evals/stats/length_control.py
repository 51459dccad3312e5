"""Length-controlled win rates by AlpacaEval 2's model (Dubois 2024, arXiv:2404.04475), for any prompt set.

$$ \\mathrm{logit}\\, p_i = w \\tanh(\\Delta_i / s) + a x_i + b, \\quad LC = \\mathrm{mean}_i\\, \\sigma(a x_i + b) $$

Delta is the baseline's length minus the model's in characters, s its standard deviation, x the instruction's
difficulty. With gamed baselines the fit is alpaca-eval 0.6.6's. A model that is nearly always the shorter one cannot
tell w from b by its own data, which is what AlpacaEval has them for; without them a prior on w comes from the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import norm

from prefzoo.errors import UserError
from prefzoo.evals.judges.annotations import Annotations, preferences
from prefzoo.evals.stats.difficulty import Gamed, from_others
from prefzoo.evals.stats.glm import AlpacaEvalFit, Fit, NewtonFit, Rows, pooled
from prefzoo.evals.stats.intervals import Values
from prefzoo.evals.stats.style import style_terms

RESAMPLES = 200
FAR, SAME = 10.0, 0.5  # points that length control moves, share of prompts with one answer: past these comes a warning
Z, EDGE = float(norm.ppf(0.975)), 1e-6
ALONE = 1  # a pool of one has no others


@dataclass(frozen=True)
class LengthControlled:
    """A length-controlled win rate in percent, where its difficulties are from, and its warnings.

    Standard error and 95% interval are of refits to resampled prompts; the interval is normal in the log of odds.
    """

    value: float
    stderr: float
    low: float
    high: float
    weights: tuple[float, float, float]
    difficulty: str
    warnings: tuple[str, ...]


def length_controlled(
    pool: Sequence[Annotations], given: pd.Series | None = None, gamed: Sequence[Gamed] = (), seed: int = 0,
    resamples: int = RESAMPLES, *, style: bool = False,
) -> dict[str, LengthControlled]:  # fmt: skip
    """Estimate the length-controlled win rate of every model of a pool.

    Args:
        pool: each model's annotations against the same baseline.
        given: difficulty by instruction; estimated from the pool if None.
        gamed: gamed baselines over `instructions(pool)`, as a regulariser of the length term.
        seed: of the resampling of prompts.
        resamples: how many resamples.
        style: whether headers, lists and bold text are controlled beside length; not with `gamed`.

    Returns:
        The rates by model.

    Raises:
        UserError: the difficulties do not cover the instructions.
    """
    order = instructions(pool)
    lengths = np.stack([length_term(a, order) for a in pool])
    won = np.stack([_by_instruction(a, order) for a in pool])
    x, source = _difficulties(lengths, won, order, given)
    data = [Rows(lengths[m], x[m], won[m], style_terms(a.rows, order) if style else None) for m, a in enumerate(pool)]
    prior = pooled(data) if not gamed and len(pool) > ALONE else None
    source += f", {len(gamed)} gamed baselines" if gamed else ", length term pooled" if prior else ""
    fits: list[Fit] = [
        NewtonFit(d, prior) if prior or style or given is None and not gamed else AlpacaEvalFit(d, gamed) for d in data
    ]
    rng, n = np.random.default_rng(seed), len(order)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)  # the same prompts for all models
    return {
        a.model: _result(a, d, fit, source, counts, deepcopy(rng)) for a, d, fit in zip(pool, data, fits, strict=True)
    }


def instructions(pool: Sequence[Annotations]) -> list[str]:
    """Return all of a pool's instructions, sorted, so that the order of rows in a file changes nothing."""
    return sorted({str(text) for a in pool for text in a.rows["instruction"]})


def length_term(annotations: Annotations, order: Sequence[str]) -> Values:
    """Return tanh of the baseline's length minus the model's over its standard deviation.

    Args:
        annotations: of one model.
        order: instructions.

    Returns:
        (n,) terms, 0 where the model has no row, or the lengths differ by the same everywhere.
    """
    rows = annotations.rows
    gap = (rows["output_1"].str.len() - rows["output_2"].str.len()).astype(float)
    spread = float(gap.std())
    if not spread > 0:
        return np.zeros(len(order))
    by_text = pd.Series(np.tanh(gap.to_numpy() / spread), index=rows["instruction"])
    return by_text.reindex(list(order)).fillna(0.0).to_numpy()


def _by_instruction(annotations: Annotations, order: Sequence[str]) -> Values:
    values = pd.Series(preferences(annotations.rows), index=annotations.rows["instruction"])
    return values.reindex(list(order)).to_numpy(dtype=float)


def _difficulties(lengths: Values, won: Values, order: list[str], given: pd.Series | None) -> tuple[Values, str]:
    """Return (models, n), and where they are from."""
    if given is None and len(won) == ALONE:
        return np.zeros_like(won), "none: a pool of one"
    if given is None:
        return from_others(lengths, won), f"from a pool of {len(won)}"
    known = given.reindex(order)
    if known.isna().any():
        lost = known.index[known.isna()]
        raise UserError(
            f"difficulties: {len(given)} given, and {len(lost)} of {len(order)} instructions have none, "
            f"like {str(lost[0])[:60]!r}; give them all, or leave them to the pool"
        )
    return np.broadcast_to(known.to_numpy(dtype=float), won.shape), "given"


def _result(
    annotations: Annotations, rows: Rows, fit: Fit, source: str, counts: Values, rng: np.random.Generator
) -> LengthControlled:
    n = len(rows.won)
    if not np.isfinite(rows.won).any():
        return LengthControlled(*(np.nan,) * 4, (np.nan,) * 3, source, ("no preference in [1, 2]",))
    weights = fit.weights(np.ones((1, n)))[0]
    again = fit.weights(counts, rng)
    at_no_difference = expit(again[:, 1:2] * rows.difficulty + again[:, 2:3])
    values = 100 * np.einsum("rn,rn->r", at_no_difference, counts) / n  # the mean is over the prompts drawn, too
    value = 100 * float(expit(weights[1] * rows.difficulty + weights[2]).mean())
    w, a, b = map(float, weights[:3])
    low, high = _interval(value, values)
    stderr = float(values.std(ddof=1))
    return LengthControlled(value, stderr, low, high, (w, a, b), source, _warnings(annotations, rows, value))


def _interval(value: float, again: Values) -> tuple[float, float]:
    """Return an interval in percent. Win rates near an end are skewed; their log odds are not."""
    middle, spread = (logit(np.clip(v / 100, EDGE, 1 - EDGE)) for v in (value, again))
    low, high = 100 * expit(middle + Z * spread.std(ddof=1) * np.array([-1, 1]))
    return float(low), float(high)


def _warnings(annotations: Annotations, rows: Rows, value: float) -> tuple[str, ...]:
    """Return what makes a number doubtful."""
    warnings, raw = [], 100 * float(np.nanmean(rows.won))
    texts = annotations.rows["output_2"].value_counts()
    gap = annotations.rows["output_1"].str.len() - annotations.rows["output_2"].str.len()
    if len(annotations.rows) > 1 and texts.iloc[0] > SAME * len(annotations.rows):
        warnings.append(f"one and the same answer to {texts.iloc[0]} of {len(annotations.rows)} prompts")
    if gap.nunique() == 1 and gap.iloc[0] != 0:
        longer = f"the baseline's answer is {gap.iloc[0]:+d} characters longer everywhere"
        warnings.append(f"{longer}: length is not controlled")
    if abs(value - raw) > FAR:
        warnings.append(f"length control moves it by {value - raw:+.1f} points")
    return tuple(warnings)
