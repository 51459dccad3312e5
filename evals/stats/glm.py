"""Fit the length-control model, either as AlpacaEval 2 does or by Newton's method with a prior on the length term."""

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

STRENGTHS = np.logspace(-4, 4, 10)  # scikit-learn's default grid, which alpaca-eval uses
FOLDS = 5
GAMED_WEIGHT = 0.2  # total weight of all gamed baselines, relative to the model's rows
STYLE_PRECISION = 1.0  # of a normal prior on each style weight; the style columns have standard deviation 1
STEPS, CLOSE = 100, 1e-9  # of Newton's method: most steps, smallest step
LEAST_NOISE = 1e-3  # least variance of a model's w; without differences in length both w and its noise are 0
SPREADS = np.linspace(0.02, 2, 100)  # grid for the standard deviation of w between models; 2 is an odds ratio of 7


@dataclass(frozen=True)
class Rows:
    """The data of one model, a row for each of n instructions.

    Attributes:
        length: (n,) length terms, each the tanh of a standardised difference in length.
        difficulty: (n,) difficulties.
        won: (n,) preferences in [0, 1]; NaN where missing.
        style: (n, k) style terms with standard deviation 1; None for no style control.
    """

    length: Values
    difficulty: Values
    won: Values
    style: Values | None = None

    @property
    def design(self) -> Values:
        """The (n, 3 + k) design matrix, with the columns of w, a, b and the style weights."""
        columns = [self.length, self.difficulty, np.ones_like(self.length)]
        return np.column_stack(columns if self.style is None else [*columns, self.style])


class Fit(Protocol):
    """A method to fit the weights (w, a, b) of the length-control model."""

    def weights(self, counts: Values, rng: np.random.Generator | None = None) -> Values:
        """Fit the model to reweighted rows.

        Args:
            counts: (r, n) weight of each row in each of r fits.
            rng: if given, each fit draws its prior at random, if it has one, so that the fits show its uncertainty.

        Returns:
            (r, 3 + k) weights w, a, b and those of the style.
        """


class AlpacaEvalFit:
    """The fit of alpaca-eval 0.6.6: a logistic regression with an L1 penalty.

    Cross-validated log loss decides the strength of the penalty. A soft label is a weighted pair of hard labels. Rows
    of gamed baselines do not contribute to the model term b.
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
        """Return the (r, 3) weights of r fits, all with the penalty that was chosen on all rows."""
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
    """A prior on the length weight w of a model, from the models of a pool.

    The estimate of w is pulled towards `center` with `precision`, as strongly as AlpacaEval's gamed baselines would.
    Intervals must also allow for a model whose w differs from those of the pool. Their refits therefore use a
    random-effects model with a flat prior on the standard deviation of w between models (Gelman 2006). A few models
    hardly determine that standard deviation, so a single best value would make the intervals too short.

    Attributes:
        center, precision: mean and inverse variance of the prior for the estimate.
        means, variances: mean of w, and variance of that mean, for each standard deviation in `SPREADS`.
        weights: posterior probability of each standard deviation in `SPREADS`.
    """

    center: float
    precision: float
    means: Values
    variances: Values
    weights: Values

    def best(self) -> tuple[Values, Values]:
        """Return the (1,) mean and (1,) variance of the prior for the estimate."""
        return np.array([self.center]), np.array([1 / self.precision])

    def draw(self, rng: np.random.Generator, size: int) -> tuple[Values, Values]:
        """Draw (size,) means and variances of the prior at random, for refits that vary as w does between models."""
        at = rng.choice(len(SPREADS), size, p=self.weights)
        variance = SPREADS[at] ** 2
        return self.means[at] + rng.normal(size=size) * np.sqrt(self.variances[at] + variance), variance


class NewtonFit:
    """A fit by Newton's method with an optional prior on w, which runs many reweightings of the rows at once."""

    def __init__(self, rows: Rows, prior: Prior | None) -> None:
        self.design, self.seen, self.prior = rows.design, np.isfinite(rows.won), prior
        self.won = np.where(self.seen, rows.won, 0.0)
        n, columns = self.design.shape
        self._squares = (self.design[:, :, None] * self.design[:, None, :]).reshape(n, columns * columns)
        self._start: Values | None = None  # the fit to all rows, which is close to those of resamples

    def weights(self, counts: Values, rng: np.random.Generator | None = None) -> Values:
        """Return the (r, 3 + k) weights of r fits; with `rng`, each has its own random draw of the prior."""
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
        """Return w, its sandwich variance and its information, all from a fit without a prior.

        The sandwich variance is needed since soft labels vary less than coin flips. The information is the sum of
        p (1 - p) t^2 over the rows, which is 0 if the lengths never differ.
        """
        beta = self.weights(np.ones((1, len(self.won))))[0]
        p, seen = expit(self.design @ beta), self.seen.astype(float)
        curve = np.einsum("n,nk,nl->kl", seen * p * (1 - p), self.design, self.design)
        bread = np.linalg.inv(curve + LOOSE * np.eye(len(curve)))
        meat = np.einsum("n,nk,nl->kl", seen * (self.won - p) ** 2, self.design, self.design)
        return float(beta[0]), float((bread @ meat @ bread)[0, 0]), float(curve[0, 0])


def pooled(models: Sequence[Rows]) -> Prior:
    """Return a prior on w from the fits of all models of a pool.

    AlpacaEval regularises w by rows that compare the baseline with itself at other lengths. These are even contests,
    with 0.2 of the weight of a model's rows. A pool has no such rows, so the prior has the precision that they would
    give (0.2 of the rows at p = 1/2). Its center is the mean of the models' w, weighted by their information.
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
