r"""Correct win rates for a judge's errors, with the help of pairs that people labelled.

Two methods are implemented. The first is the measurement-error correction of Rogan & Gladen 1978 (for judging models:
arXiv:2511.21140),
$$ \theta = \frac{p + q_0 - 1}{q_0 + q_1 - 1}, $$
where p is the judge's win rate, and q_0 and q_1 are the rates at which it agrees with people when they prefer the
base's or the model's answer. The second is prediction-powered inference (arXiv:2301.09633, tuned as in
arXiv:2311.01453),
$$ \theta = \lambda \bar f_{all} + \overline{(h - \lambda f)}_{labelled}, $$
where f are the judge's verdicts on all prompts and h are people's labels of some. arXiv:2601.05420 compares the two.
Each estimate is the mean of one value per prompt. These values carry the labels' uncertainty, and allow paired tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from prefzoo.evals.stats.inference import LEVEL
from prefzoo.evals.stats.intervals import Estimate, Values

HALF = 0.5
FEWEST = 10  # fewest labels for a correction
EACH = 5  # fewest labels of each outcome for separate q_0 and q_1
Z = 1.96  # standard errors on either side of a 95% interval
ADDED = 0.25  # labels added to each kind of agreement and disagreement, so that no rate is exactly 0 or 1


@dataclass(frozen=True)
class Labels:
    """Preferences of the judge and of people on m pairs, from 0 (the first answer wins) to 1 (the second wins).

    Attributes:
        judged: (m,) the judge's preferences.
        human: (m,) people's preferences.
        prompt: (m,) index of each pair's prompt in the evaluation; prompts outside of it have higher numbers.
    """

    judged: Values
    human: Values
    prompt: NDArray[np.int64]

    @property
    def agreement(self) -> Values:
        """(m,) agreement of the judge with people, from 0 to 1."""
        return self.human * self.judged + (1 - self.human) * (1 - self.judged)

    @property
    def ties(self) -> int:
        """The number of pairs that people call a tie."""
        return int((self.human == HALF).sum())

    def decided(self) -> Labels:
        """Return the pairs that people do not call a tie. On a tie the judge cannot err."""
        at = self.human != HALF
        return Labels(self.judged[at], self.human[at], self.prompt[at])


@dataclass(frozen=True)
class Corrected:
    """A corrected win rate.

    Attributes:
        estimate: the win rate, with its 95% interval.
        rows: (n,) one value per prompt. Their mean is the estimate, and their spread shows its uncertainty.
        labels: number of labelled pairs behind it.
        effective: number of human labels that alone would give the same standard error.
    """

    estimate: Estimate
    rows: Values
    labels: int
    effective: float


def no_better_than_chance(labels: Labels) -> bool:
    """Return whether the 95% interval of a judge's agreement with people reaches one half or less."""
    low, _ = agreement_interval(labels)
    return not low > HALF


def agreement_interval(labels: Labels) -> tuple[float, float]:
    """Return the 95% interval of the judge's agreement with people, over prompts.

    Args:
        labels: the labelled pairs, not all ties. Ties are left out.
    """
    units = _Units(labels.decided(), symmetric=True, prompts=0)
    reach = float(student.ppf((1 + LEVEL) / 2, max(1, units.freedom))) * float(np.sqrt((units.of_q1**2).sum()))
    return max(0.0, units.q1 - reach), min(1.0, units.q1 + reach)


def rogan_gladen(won: Values, labels: Labels, *, symmetric: bool = True) -> Corrected | None:
    """Correct a win rate by the judge's error rates on labelled pairs (Rogan & Gladen 1978).

    The interval is that of Fieller 1954, for a ratio with an uncertain denominator. A tie counts as half a win. If
    `symmetric`, ties among the labels are left out: they would lower q_0 = q_1 as errors do, and push the rate away
    from one half.

    Args:
        won: (n,) the judge's verdicts, from 0 (the base wins) to 1 (the model wins); NaN where one is missing.
        labels: labelled pairs on which the judge errs as often as on the prompts.
        symmetric: whether the order of the two answers in a labelled pair is arbitrary, so that each pair counts in
            both orders, and q_0 = q_1. Otherwise the first answer is the base's and the second the model's.

    Returns:
        The estimate, clipped to [0, 1]; None if there are too few labels, or the judge is no better than chance.
    """
    labels = labels.decided() if symmetric else labels
    n, seen = len(won), np.isfinite(won)
    outcomes = (labels.human.sum(), (1 - labels.human).sum())
    if len(labels.human) < FEWEST or (not symmetric and min(outcomes) < EACH) or seen.sum() < 2:  # noqa: PLR2004
        return None
    units = _Units(labels, symmetric=symmetric, prompts=n)
    p = float(won[seen].mean())
    of_p = np.zeros(len(units.of_q1))
    of_p[:n][seen] = (won[seen] - p) / seen.sum()
    above, below = p + units.q0 - 1, units.q0 + units.q1 - 1
    of_above, of_below = of_p + units.of_q0, units.of_q0 + units.of_q1
    reach = float(student.ppf((1 + LEVEL) / 2, units.freedom))
    spread = reach**2 * np.array([(of_above**2).sum(), (of_above * of_below).sum(), (of_below**2).sum()])
    if below**2 <= spread[2] or below <= 0:
        return None
    low, high = _fieller(above, below, spread)
    value = above / below
    influence = (of_above - value * of_below) / below
    stderr = float(np.sqrt((influence**2).sum()))
    rows = np.where(seen, value + n * influence[:n], np.nan)
    rows += value - np.nanmean(rows)  # labels of other prompts shift the mean, but belong to no row
    return Corrected(_within(value, stderr, low, high, int(seen.sum())), rows, len(labels.human), _worth(value, stderr))


def prediction_powered(won: Values, human: Values) -> Corrected | None:
    """Correct a win rate by people's labels of some of the same pairs (prediction-powered inference).

    The weight lambda of the judge's verdicts is tuned, so that an uninformative judge does not change the estimate.

    Args:
        won: (n,) the judge's verdicts, from 0 (the base wins) to 1 (the model wins); NaN where one is missing.
        human: (n,) people's preferences on the same scale; NaN without a label. The labelled prompts must be a random
            sample of all.

    Returns:
        The estimate, clipped to [0, 1]; None if there are too few labels.
    """
    seen = np.isfinite(won)
    labelled = seen & np.isfinite(human)
    n, m = int(seen.sum()), int(labelled.sum())
    if m < FEWEST:
        return None
    f, h, every = won[labelled], human[labelled], won[seen]
    tuned = float(np.cov(f, h, ddof=1)[0, 1] / np.var(f, ddof=1)) if np.ptp(f) > 0 else 0.0
    tuned = min(1.0, max(0.0, tuned))
    rest = h - tuned * f
    value = float(tuned * every.mean() + rest.mean())
    rows = np.where(seen, tuned * won + rest.mean(), np.nan)
    rows[labelled] += n / m * (rest - rest.mean())
    freedom = m - 2
    scale = m / freedom  # mean and lambda are estimated from the labels
    widening = ADDED / m**2  # as from ADDED labels that disagree by a whole win
    squares = (rows[seen] - value) ** 2
    spread = float(squares.sum() + (scale - 1) * squares[labelled[seen]].sum()) / n**2
    stderr = float(np.sqrt(spread + widening))
    reach = float(student.ppf((1 + LEVEL) / 2, freedom)) * stderr
    estimate = _within(value, stderr, value - reach, value + reach, n)
    return Corrected(estimate, rows, m, float(max(h.var(ddof=1), ADDED / m) / stderr**2))


def with_ties(corrected: Corrected, same: NDArray[np.bool_]) -> Corrected:
    """Add the prompts to which both models gave the same answer, as ties.

    Args:
        corrected: the estimate over the other prompts.
        same: (n,) whether the two answers to each prompt are the same.

    Returns:
        The estimate over all n prompts.
    """
    if not same.any():
        return corrected
    one, n = corrected.estimate, corrected.estimate.n + int(same.sum())
    share = one.n / n
    rows = np.full(len(same), HALF)
    rows[~same] = corrected.rows
    drawn = share * (1 - share) / n * (one.value - HALF) ** 2  # the number of equal answers is random, too
    value = share * one.value + (1 - share) * HALF
    stderr = float(np.sqrt((share * one.stderr) ** 2 + drawn))
    low, high = (value + np.sign(end - one.value) * np.hypot(share * (end - one.value), Z * np.sqrt(drawn))
                 for end in (one.low, one.high))  # fmt: skip
    estimate = _within(value, stderr, float(low), float(high), n)
    return Corrected(estimate, rows, corrected.labels, _worth(value, stderr))


class _Units:
    """The rates q_0 and q_1, and the contribution of each unit to their errors.

    The units are the prompts, then the labelled prompts outside the evaluation, then the added labels (`ADDED`).
    """

    def __init__(self, labels: Labels, *, symmetric: bool, prompts: int) -> None:
        judged: Values = np.asarray(labels.judged, dtype=np.float64)
        human: Values = np.asarray(labels.human, dtype=np.float64)
        prompt = labels.prompt
        if symmetric:  # each pair in both orders
            judged, human = np.concatenate([judged, 1 - judged]), np.concatenate([human, 1 - human])
            prompt = np.concatenate([prompt, prompt])
        units = max(prompts, int(prompt.max()) + 1)
        added = np.array([0, 1, 0, 1] if symmetric else [0, 1, 2, 3]) + units
        judged = np.concatenate([judged, [1.0, 0.0, 0.0, 1.0]])
        human = np.concatenate([human, [1.0, 1.0, 0.0, 0.0]])
        prompt = np.concatenate([prompt, added])
        weight = np.concatenate([np.ones(len(human) - 4), np.full(4, ADDED)])
        scale = np.where(weight < 1, np.sqrt(weight), 1.0)  # a fraction of a label adds that fraction of its variance
        self.q1, self.of_q1 = _rate(judged, human, weight, scale, prompt, units + 4)
        self.q0, self.of_q0 = _rate(1 - judged, 1 - human, weight, scale, prompt, units + 4)
        self.freedom = max(1, len(np.unique(labels.prompt)) - (1 if symmetric else 2))


def _rate(
    agreed: Values, of: Values, weight: Values, scale: Values, unit: NDArray[np.int64], units: int
) -> tuple[float, Values]:
    """Return the mean of `agreed` with weights `weight * of`, and the contribution of each unit to its error."""
    total = float((weight * of).sum())
    rate = float((weight * of * agreed).sum()) / total
    error = np.bincount(unit, scale * of * (agreed - rate), minlength=units) / total
    return rate, error * np.sqrt(total / max(total - 1, HALF))


def _fieller(above: float, below: float, spread: Values) -> tuple[float, float]:
    """Return the interval of x in which (above - x below)^2 is at most its scaled variance, a quadratic in x.

    `spread` holds the scaled variance of `above`, the covariance of both, and the variance of `below`.
    """
    a, b, c = below**2 - spread[2], above * below - spread[1], above**2 - spread[0]
    root = float(np.sqrt(max(b**2 - a * c, 0.0)))
    return (b - root) / a, (b + root) / a


def _within(value: float, stderr: float, low: float, high: float, n: int) -> Estimate:
    value, low, high = (float(np.clip(v, 0, 1)) for v in (value, low, high))
    return Estimate(value, stderr, low, high, n)


def _worth(value: float, stderr: float) -> float:
    share = float(np.clip(value, 0.05, 0.95))  # with a share of 0 or 1, one label would be enough
    return share * (1 - share) / stderr**2
