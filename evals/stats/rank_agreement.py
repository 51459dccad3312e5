"""The agreement of two rankings of the same variants: Kendall's tau, with an interval over prompts and seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prefzoo.evals.stats.intervals import NOTHING, Estimate, Values, of_resamples

RESAMPLES = 2000
THREE = 3  # fewest variants whose order is informative
TWO = 2  # fewest prompts that can be resampled


def rank_agreement(one: Mapping[str, Values], other: Mapping[str, Values], seed: int = 0) -> Estimate:
    """Estimate Kendall's tau-b (Kendall 1945) between the orders of variants in two settings.

    The interval resamples prompts and seeds; all variants get the same prompts. Noise in the means makes two orders
    differ more, so with few prompts the interval is biased towards 0.

    Args:
        one: (seeds, n) values of each variant in the first setting. Higher is better, or lower in both settings.
        other: the same in the second setting. If n is equal, the prompts are taken to be the same, and are resampled
            together.
        seed: seed of the resamples.

    Returns:
        Tau, 1 for the same order and -1 for the reverse, with its 95% interval. Its `n` is the number of shared
        variants. NaN if fewer than three variants are shared, or all of them are equal.
    """
    names = [name for name in one if name in other]
    first, second = (_complete([side[name] for name in names]) for side in (one, other))
    if len(names) < THREE or min(_prompts(first), _prompts(second)) < TWO:
        return NOTHING
    value = float(_tau(_means(first)[None], _means(second)[None])[0])
    if not np.isfinite(value):
        return NOTHING
    rng = np.random.default_rng(seed)
    a, b = _resampled(first, second, rng)
    taus = _tau(a, b)
    return of_resamples(value, taus[np.isfinite(taus)], len(names))


def _complete(values: list[Values]) -> list[Values]:
    """Drop the prompts on which a variant lacks a value; return nothing if the numbers of prompts differ."""
    if not values or len({v.shape[1] for v in values}) > 1:
        return []
    kept = np.all([np.isfinite(v).all(0) for v in values], axis=0)
    return [v[:, kept] for v in values]


def _prompts(values: list[Values]) -> int:
    return values[0].shape[1] if values else 0


def _means(values: list[Values]) -> Values:
    return np.array([v.mean() for v in values])


def _resampled(first: list[Values], second: list[Values], rng: np.random.Generator) -> tuple[Values, Values]:
    """Return two (r, variants) tables of resampled means, over the same prompts if both settings have equally many."""
    prompts = _drawn(rng, _prompts(first))
    same = _prompts(first) == _prompts(second)
    return _table(first, prompts, rng), _table(second, prompts if same else _drawn(rng, _prompts(second)), rng)


def _drawn(rng: np.random.Generator, n: int) -> Values:
    """Return (r, n) weights of n items in each resample, which sum to 1."""
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n


def _table(values: list[Values], prompts: Values, rng: np.random.Generator) -> Values:
    return np.stack([(prompts @ v.T * _drawn(rng, len(v))).sum(1) for v in values], axis=1)


def _tau(a: Values, b: Values) -> Values:
    """Return (r,) tau-b of each row of two (r, variants) tables; NaN where all values of a row are the same."""
    i, j = np.triu_indices(a.shape[1], 1)
    x, y = (np.sign(np.round(table[:, i] - table[:, j], 12)) for table in (a, b))
    untied = np.sqrt(np.abs(x).sum(1) * np.abs(y).sum(1))
    taus: Values = np.divide((x * y).sum(1), untied, out=np.full(len(a), np.nan), where=untied > 0)
    return taus
