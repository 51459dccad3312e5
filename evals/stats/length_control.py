"""Length-controlled win rates by AlpacaEval 2's model (Dubois 2024, arXiv:2404.04475), for any prompt set.

$$ \\mathrm{logit}\\, p_i = w \\tanh(\\Delta_i / s) + a x_i + b, \\quad LC = \\mathrm{mean}_i\\, \\sigma(a x_i + b) $$

Delta is the baseline's length minus the model's in characters, s its standard deviation, and x the instruction's
difficulty. If a model's answers are nearly always shorter (or longer) than the baseline's, its own data cannot separate
w from b. AlpacaEval adds gamed baselines for this reason, and with them the fit is that of alpaca-eval 0.6.6. Without
them, the other models of the pool give a prior on w.
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
FAR, SAME = 10.0, 0.5  # warn beyond these: change by length control in points, share of prompts with the same answer
Z, EDGE = float(norm.ppf(0.975)), 1e-6  # of a 95% interval; least distance of a share from 0 and 1 before its logit
ALONE = 1  # size of a pool without other models


@dataclass(frozen=True)
class LengthControlled:
    """A length-controlled win rate.

    Attributes:
        value: the win rate in percent.
        stderr: its standard error in percentage points, from refits to resampled prompts.
        low, high: its 95% interval in percent, which is a normal interval of the log-odds of these refits.
        weights: the fitted w, a and b.
        difficulty: the source of the difficulties and of any regularisation, in words.
        warnings: reasons to doubt the number.
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
    """Estimate the length-controlled win rate of every model in a pool.

    Args:
        pool: the annotations of each model against the same baseline.
        given: the difficulty of each instruction, with its text as index; None to estimate it from the pool.
        gamed: gamed baselines over `instructions(pool)`, which regularise the length term.
        seed: seed of the resamples.
        resamples: number of resamples of prompts.
        style: whether to control headers, lists and bold text as well as length; not supported with `gamed`.

    Returns:
        The win rates, by model.

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
    """Return all instructions of a pool, sorted, so that results do not depend on the order of rows."""
    return sorted({str(text) for a in pool for text in a.rows["instruction"]})


def length_term(annotations: Annotations, order: Sequence[str]) -> Values:
    """Return the length term tanh(Delta / s) of each instruction (see the module's docstring).

    Args:
        annotations: the annotations of one model.
        order: n instructions.

    Returns:
        (n,) terms; 0 for instructions without a row, and everywhere if Delta is constant.
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
    """Return (models, n) difficulties, and their source in words."""
    if given is None and len(won) == ALONE:
        return np.zeros_like(won), "none: a pool of one"
    if given is None:
        return from_others(lengths, won), f"from a pool of {len(won)}"
    known = given.reindex(order)
    if known.isna().any():
        lost = known.index[known.isna()]
        raise UserError(
            f"difficulties: {len(given)} given, and {len(lost)} of {len(order)} instructions have none, "
            f"like {str(lost[0])[:60]!r}; give them all, or give none to estimate them from the pool"
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
    values = 100 * np.einsum("rn,rn->r", at_no_difference, counts) / n  # the mean is also over the resampled prompts
    value = 100 * float(expit(weights[1] * rows.difficulty + weights[2]).mean())
    w, a, b = map(float, weights[:3])
    low, high = _interval(value, values)
    stderr = float(values.std(ddof=1))
    return LengthControlled(value, stderr, low, high, (w, a, b), source, _warnings(annotations, rows, value))


def _interval(value: float, again: Values) -> tuple[float, float]:
    """Return a 95% interval in percent, computed in log-odds, since win rates near 0% or 100% are skewed."""
    middle, spread = (logit(np.clip(v / 100, EDGE, 1 - EDGE)) for v in (value, again))
    low, high = 100 * expit(middle + Z * spread.std(ddof=1) * np.array([-1, 1]))
    return float(low), float(high)


def _warnings(annotations: Annotations, rows: Rows, value: float) -> tuple[str, ...]:
    """Return the reasons to doubt a number."""
    warnings, raw = [], 100 * float(np.nanmean(rows.won))
    texts = annotations.rows["output_2"].value_counts()
    gap = annotations.rows["output_1"].str.len() - annotations.rows["output_2"].str.len()
    if len(annotations.rows) > 1 and texts.iloc[0] > SAME * len(annotations.rows):
        warnings.append(f"the same answer to {texts.iloc[0]} of {len(annotations.rows)} prompts")
    if gap.nunique() == 1 and gap.iloc[0] != 0:
        longer = f"the baseline's answers are all longer by {gap.iloc[0]:+d} characters"
        warnings.append(f"{longer}: length is not controlled")
    if abs(value - raw) > FAR:
        warnings.append(f"length control changes it by {value - raw:+.1f} points")
    return tuple(warnings)
