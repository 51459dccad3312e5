r"""Win rates corrected for a judge's errors, as far as pairs that people labelled show them.

The measurement-error correction of Rogan & Gladen 1978 (for judging models: arXiv:2511.21140),
$$ \theta = \frac{p + q_0 - 1}{q_0 + q_1 - 1}, $$
from the judge's win rate p and from how often it agrees with people where they prefer the base's answer (q_0) and the
model's (q_1); and prediction-powered inference (arXiv:2301.09633, tuned as in arXiv:2311.01453; the two compared in
arXiv:2601.05420),
$$ \theta = \lambda \bar f_{all} + \overline{(h - \lambda f)}_{labelled}, $$
from the judge's verdicts f on all prompts and people's h on some. Every estimate is linear in its prompts, so that the
labels' uncertainty and the pairing of two models are in the values per prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from prefzoo.evals.stats.inference import LEVEL
from prefzoo.evals.stats.intervals import Estimate, Values

HALF = 0.5
FEWEST = 10  # labels, with fewer of which nothing is corrected
EACH = 5  # labels of either outcome, with fewer of which q_0 and q_1 are not told apart
Z = 1.96  # of a 95% interval
ADDED = 0.25  # of a label added to each way of agreeing and disagreeing: no number of labels shows that there is none


@dataclass(frozen=True)
class Labels:
    """What the judge and people say of the same pairs, all from 0 (the first answer is better) to 1 (the second is).

    Attributes:
        judged: (m,) the judge's preference.
        human: (m,) people's.
        prompt: (m,) the number of each pair's prompt among those of the evaluation; others have higher numbers.
    """

    judged: Values
    human: Values
    prompt: NDArray[np.int64]

    @property
    def agreement(self) -> Values:
        """(m,) how far the judge agrees with people, 1 wholly, 0 not at all."""
        return self.human * self.judged + (1 - self.human) * (1 - self.judged)

    @property
    def ties(self) -> int:
        """How many pairs have no better answer, as people see it."""
        return int((self.human == HALF).sum())

    def decided(self) -> Labels:
        """Return the pairs that are no ties. No verdict on a tie is an error."""
        at = self.human != HALF
        return Labels(self.judged[at], self.human[at], self.prompt[at])


@dataclass(frozen=True)
class Corrected:
    """A corrected win rate.

    Attributes:
        estimate: with its 95% interval.
        rows: (n,) one value per prompt, whose mean is the estimate, and whose spread is its uncertainty.
        labels: how many labelled pairs it is from.
        effective: how many human labels alone would be worth as much.
    """

    estimate: Estimate
    rows: Values
    labels: int
    effective: float


def no_better_than_chance(labels: Labels) -> bool:
    """Return whether the 95% interval of a judge's agreement with people reaches down to one half."""
    low, _ = agreement_interval(labels)
    return not low > HALF


def agreement_interval(labels: Labels) -> tuple[float, float]:
    """Return the 95% interval of the agreement, over prompts; ties are left out.

    Args:
        labels: at least one of them is no tie.
    """
    units = _Units(labels.decided(), symmetric=True, prompts=0)
    reach = float(student.ppf((1 + LEVEL) / 2, max(1, units.freedom))) * float(np.sqrt((units.of_q1**2).sum()))
    return max(0.0, units.q1 - reach), min(1.0, units.q1 + reach)


def rogan_gladen(won: Values, labels: Labels, *, symmetric: bool = True) -> Corrected | None:
    """Correct a win rate by the judge's rates of error on labelled pairs.

    The interval is Fieller's 1954, which holds for a ratio whose denominator is uncertain.

    A tie is half a win. Where each pair counts both ways round, ties are left out: they would lower q_0 = q_1 as errors
    do, and push the rate away from one half.

    Args:
        won: (n,) the judge's verdicts, from 0 (the base wins) to 1; NaN where one is missing.
        labels: of pairs of which the judge errs as often.
        symmetric: whether the order of the two answers of a labelled pair means nothing, so that each pair counts both
            ways round and q_0 = q_1; else the first is the base's and the second the model's.

    Returns:
        The estimate within [0, 1]; None if there are too few labels, or the judge is no better than chance.
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
    rows += value - np.nanmean(rows)  # what other prompts' labels say belongs to none of these
    return Corrected(_within(value, stderr, low, high, int(seen.sum())), rows, len(labels.human), _worth(value, stderr))


def prediction_powered(won: Values, human: Values) -> Corrected | None:
    """Correct a win rate by people's labels of some of the same pairs.

    Args:
        won: (n,) the judge's verdicts, from 0 (the base wins) to 1; NaN where one is missing.
        human: (n,) people's of the same pairs; NaN where there is no label. Labelled prompts are taken as drawn at
            random from all.

    Returns:
        The estimate within [0, 1], tuned so that a judge that says nothing changes nothing; None if there are too few
        labels.
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
    scale = m / freedom  # the mean and lambda are from the labels themselves
    widening = ADDED / m**2  # as of a part of a label that disagrees by a whole win
    squares = (rows[seen] - value) ** 2
    spread = float(squares.sum() + (scale - 1) * squares[labelled[seen]].sum()) / n**2
    stderr = float(np.sqrt(spread + widening))
    reach = float(student.ppf((1 + LEVEL) / 2, freedom)) * stderr
    estimate = _within(value, stderr, value - reach, value + reach, n)
    return Corrected(estimate, rows, m, float(max(h.var(ddof=1), ADDED / m) / stderr**2))


def with_ties(corrected: Corrected, same: NDArray[np.bool_]) -> Corrected:
    """Add the prompts to which both models gave the same answer, of which nobody needs a verdict.

    Args:
        corrected: over the other prompts.
        same: (n,) which prompts these are.

    Returns:
        The same over all n prompts.
    """
    if not same.any():
        return corrected
    one, n = corrected.estimate, corrected.estimate.n + int(same.sum())
    share = one.n / n
    rows = np.full(len(same), HALF)
    rows[~same] = corrected.rows
    drawn = share * (1 - share) / n * (one.value - HALF) ** 2  # how many answers are the same is chance, too
    value = share * one.value + (1 - share) * HALF
    stderr = float(np.sqrt((share * one.stderr) ** 2 + drawn))
    low, high = (value + np.sign(end - one.value) * np.hypot(share * (end - one.value), Z * np.sqrt(drawn))
                 for end in (one.low, one.high))  # fmt: skip
    estimate = _within(value, stderr, float(low), float(high), n)
    return Corrected(estimate, rows, corrected.labels, _worth(value, stderr))


class _Units:
    """q_0 and q_1, and what each prompt adds to their errors.

    Units are the prompts, then the labelled prompts outside the evaluation, then the added parts of labels.
    """

    def __init__(self, labels: Labels, *, symmetric: bool, prompts: int) -> None:
        judged: Values = np.asarray(labels.judged, dtype=np.float64)
        human: Values = np.asarray(labels.human, dtype=np.float64)
        prompt = labels.prompt
        if symmetric:  # each pair both ways round
            judged, human = np.concatenate([judged, 1 - judged]), np.concatenate([human, 1 - human])
            prompt = np.concatenate([prompt, prompt])
        units = max(prompts, int(prompt.max()) + 1)
        added = np.array([0, 1, 0, 1] if symmetric else [0, 1, 2, 3]) + units
        judged = np.concatenate([judged, [1.0, 0.0, 0.0, 1.0]])
        human = np.concatenate([human, [1.0, 1.0, 0.0, 0.0]])
        prompt = np.concatenate([prompt, added])
        weight = np.concatenate([np.ones(len(human) - 4), np.full(4, ADDED)])
        scale = np.where(weight < 1, np.sqrt(weight), 1.0)  # a part of a label adds that part of its variance
        self.q1, self.of_q1 = _rate(judged, human, weight, scale, prompt, units + 4)
        self.q0, self.of_q0 = _rate(1 - judged, 1 - human, weight, scale, prompt, units + 4)
        self.freedom = max(1, len(np.unique(labels.prompt)) - (1 if symmetric else 2))


def _rate(
    agreed: Values, of: Values, weight: Values, scale: Values, unit: NDArray[np.int64], units: int
) -> tuple[float, Values]:
    """Return the weighted mean of `agreed`, and what each unit adds to its error."""
    total = float((weight * of).sum())
    rate = float((weight * of * agreed).sum()) / total
    error = np.bincount(unit, scale * of * (agreed - rate), minlength=units) / total
    return rate, error * np.sqrt(total / max(total - 1, HALF))


def _fieller(above: float, below: float, spread: Values) -> tuple[float, float]:
    """Return where (above - x below)^2 is within the spread, a quadratic with its variance and covariances."""
    a, b, c = below**2 - spread[2], above * below - spread[1], above**2 - spread[0]
    root = float(np.sqrt(max(b**2 - a * c, 0.0)))
    return (b - root) / a, (b + root) / a


def _within(value: float, stderr: float, low: float, high: float, n: int) -> Estimate:
    value, low, high = (float(np.clip(v, 0, 1)) for v in (value, low, high))
    return Estimate(value, stderr, low, high, n)


def _worth(value: float, stderr: float) -> float:
    share = float(np.clip(value, 0.05, 0.95))  # a share of 0 or 1 would be known from one label
    return share * (1 - share) / stderr**2
