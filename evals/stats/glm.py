"""Fitting the length-control model: as AlpacaEval 2 does, or by Newton's method with a prior on the length term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from prefzoo.evals.stats.difficulty import LONGEST_STEP, LOOSE, Gamed
from prefzoo.evals.stats.intervals import Values

STRENGTHS = np.logspace(-4, 4, 10)  # scikit-learn's own ten, which alpaca-eval uses
FOLDS = 5
GAMED_WEIGHT = 0.2  # of all gamed baselines together, against 1 for the model's rows
STYLE_PRECISION = 1.0  # of a normal prior on each weight of the style, whose columns have spread 1
STEPS, CLOSE = 100, 1e-9
LEAST_NOISE = 1e-3  # variance of a model's w: one whose lengths never differ has no w, and no noise either
SPREADS = np.linspace(0.02, 2, 100)  # what w may vary by between models; 2 would be an odds ratio of 7


@dataclass(frozen=True)
class Rows:
    """One model's rows by instruction: tanh length term, difficulty, preference in [0, 1] (NaN: missing), any style.

    `style`: (n, k) further columns with spread 1.
    """

    length: Values
    difficulty: Values
    won: Values
    style: Values | None = None

    @property
    def design(self) -> Values:
        """(n, 3 + k) columns of w, a and b, and of the style."""
        columns = [self.length, self.difficulty, np.ones_like(self.length)]
        return np.column_stack(columns if self.style is None else [*columns, self.style])


class Fit(Protocol):
    """A way to get (w, a, b)."""

    def weights(self, counts: Values, rng: np.random.Generator | None = None) -> Values:
        """Fit the model to reweighted rows.

        Args:
            counts: (r, n) how often each row counts.
            rng: if given, whatever is uncertain besides the rows varies too.

        Returns:
            (r, 3 + k) w, a and b, and the weights of the style.
        """


class AlpacaEvalFit:
    """alpaca-eval 0.6.6's: L1, soft labels as weighted pairs of hard ones, strength by cross-validated log loss.

    Gamed baselines are rows without the model term b.
    """

    def __init__(self, rows: Rows, gamed: Sequence[Gamed]) -> None:
        n = len(rows.won)
        without_b = [np.column_stack([g.length, rows.difficulty, np.zeros(n)]) for g in gamed]
        design, won = np.vstack([rows.design, *without_b]), np.concatenate([rows.won, *(g.preference for g in gamed)])
        weight = np.concatenate([np.ones(n), np.full(len(won) - n, GAMED_WEIGHT / max(1, len(gamed)))])
        place = np.tile(np.arange(n), 1 + len(gamed))
        kept = np.isfinite(won) & np.isfinite(design).all(1)
        self.design, self.won, self.weight, self.place = design[kept], won[kept], weight[kept], place[kept]
        self.strength = self._choose() if len(self.won) >= FOLDS else STRENGTHS[-1]

    def weights(self, counts: Values, rng: np.random.Generator | None = None) -> Values:  # noqa: ARG002 - rows alone
        """Return (r, 3) weights, one fit each at the strength chosen on all rows."""
        everything = np.arange(len(self.won))
        return np.stack([self._fit(everything, row[self.place], self.strength) for row in counts])

    def _fit(self, rows: np.ndarray, counts: Values, strength: float) -> Values:
        design, won, weight = self.design[rows], self.won[rows], self.weight[rows] * counts
        fitted = LogisticRegression(
            l1_ratio=1, solver="liblinear", C=strength, fit_intercept=False, tol=1e-6, max_iter=1000, random_state=0
        ).fit(
            np.vstack([design, design]),
            np.repeat([1, 0], len(won)),
            sample_weight=np.concatenate([won * weight, (1 - won) * weight]),
        )
        return np.asarray(fitted.coef_[0], dtype=float)

    def _choose(self) -> float:
        groups = np.arange(len(self.won))
        losses = np.zeros(len(STRENGTHS))
        for fitted_on, tried_on in GroupKFold(FOLDS).split(self.design, groups=groups):
            for i, strength in enumerate(STRENGTHS):
                z = self.design[tried_on] @ self._fit(fitted_on, np.ones(len(fitted_on)), strength)
                won = self.won[tried_on]
                # -log sigma(z) = log(1 + e^-z), kept finite at both ends
                loss = won * np.logaddexp(0, -z) + (1 - won) * np.logaddexp(0, z)
                losses[i] += (self.weight[tried_on] * loss).mean()
        return float(STRENGTHS[losses.argmin()])


@dataclass(frozen=True)
class Prior:
    """What a pool tells about one more model's w.

    An estimate is pulled as far as AlpacaEval's gamed baselines would pull it: towards `center` by `precision`. An
    interval must also hold a model whose w is unlike the pool's, so its refits follow the random-effects model of a
    meta-analysis with a flat prior on the spread (Gelman 2006): for every spread in SPREADS the mean, that mean's
    variance and its weight. A handful of models hardly determine the spread, and one best value for it makes intervals
    too short.
    """

    center: float
    precision: float
    means: Values
    variances: Values
    weights: Values

    def best(self) -> tuple[Values, Values]:
        """Return the (1,) mean and (1,) variance of w for the estimate itself."""
        return np.array([self.center]), np.array([1 / self.precision])

    def draw(self, rng: np.random.Generator, size: int) -> tuple[Values, Values]:
        """Draw (size,) centers and variances, so that refits under them vary as w itself does."""
        at = rng.choice(len(SPREADS), size, p=self.weights)
        variance = SPREADS[at] ** 2
        return self.means[at] + rng.normal(size=size) * np.sqrt(self.variances[at] + variance), variance


class NewtonFit:
    """The model by Newton's method, with a prior on w; many weightings of the rows at once."""

    def __init__(self, rows: Rows, prior: Prior | None) -> None:
        self.design, self.seen, self.prior = rows.design, np.isfinite(rows.won), prior
        self.won = np.where(self.seen, rows.won, 0.0)
        n, columns = self.design.shape
        self._squares = (self.design[:, :, None] * self.design[:, None, :]).reshape(n, columns * columns)
        self._start: Values | None = None  # what all rows give: near to what any resample of them does

    def weights(self, counts: Values, rng: np.random.Generator | None = None) -> Values:
        """Return (r, 3 + k) weights; with `rng`, each under a prior of its own."""
        if self._start is None:
            self._start = np.zeros(self.design.shape[1])
            self._start = self.weights(np.ones((1, len(self.won))))[0]
        seen, design = np.where(self.seen, counts, 0.0), self.design
        columns = design.shape[1]
        beta = np.tile(self._start, (len(counts), 1))
        center, pull = np.zeros((2, len(counts), columns))
        pull[:, 3:] = STYLE_PRECISION
        if self.prior:
            mean, variance = self.prior.draw(rng, len(counts)) if rng else self.prior.best()
            center[:, 0], pull[:, 0] = mean, 1 / variance
        tight = (LOOSE + pull)[:, :, None] * np.eye(columns)
        expected = (seen * self.won) @ design
        for _ in range(STEPS):
            p = expit(beta @ design.T)
            weighted = seen * p
            slope = expected - weighted @ design - LOOSE * beta - pull * (beta - center)
            weighted *= 1 - p
            curve = (weighted @ self._squares).reshape(-1, columns, columns) + tight
            step = np.linalg.solve(curve, slope[..., None])[..., 0].clip(-LONGEST_STEP, LONGEST_STEP)
            beta = beta + step
            if np.abs(step).max() < CLOSE:
                break
        return beta

    def summary(self) -> tuple[float, float, float]:
        """Return w, its sandwich variance and its information, all without a prior.

        The sandwich is needed because soft labels vary less than coin flips would. The information, the sum of
        p (1 - p) t^2, is 0 where the lengths never differ.
        """
        beta = self.weights(np.ones((1, len(self.won))))[0]
        p, seen = expit(self.design @ beta), self.seen.astype(float)
        curve = np.einsum("n,nk,nl->kl", seen * p * (1 - p), self.design, self.design)
        bread = np.linalg.inv(curve + LOOSE * np.eye(len(curve)))
        meat = np.einsum("n,nk,nl->kl", seen * (self.won - p) ** 2, self.design, self.design)
        return float(beta[0]), float((bread @ meat @ bread)[0, 0]), float(curve[0, 0])


def pooled(models: Sequence[Rows]) -> Prior:
    """Return the prior on w that a pool gives, from every model's own w, its noise and its information.

    AlpacaEval pulls w by rows of the baseline against itself in other lengths: an even contest, weighted as 0.2 of a
    model's rows. The pool has no such rows, so their information is computed: 0.2 of the rows at p = 1/2, pulling
    towards the mean of the models' w, in which a model counts by its information, as rows of one joint fit do.
    """
    w, noise, information = np.array([NewtonFit(rows, None).summary() for rows in models]).T
    total = np.maximum(noise, LEAST_NOISE) + SPREADS[:, None] ** 2
    variances = 1 / (1 / total).sum(1)
    means = variances * (w / total).sum(1)
    log = 0.5 * (np.log(variances) - (np.log(total) + (w - means[:, None]) ** 2 / total).sum(1))
    weights = np.exp(log - log.max())
    center = float((information * w).sum() / max(information.sum(), LOOSE))
    even = float(np.mean([(rows.length**2).sum() for rows in models])) / 4
    return Prior(center, max(GAMED_WEIGHT * even, LOOSE), means, variances, weights / weights.sum())
