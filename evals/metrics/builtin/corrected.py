"""Win rates corrected for the judge's errors on labelled pairs: by Rogan & Gladen, and prediction-powered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, Noted, PooledEstimator, RowsFunction, register
from prefzoo.evals.stats.intervals import Values
from prefzoo.evals.stats.judge_error import (
    FEWEST,
    Corrected,
    Labels,
    agreement_interval,
    no_better_than_chance,
    prediction_powered,
    rogan_gladen,
    with_ties,
)

HALF = 0.5


def labels_of(measured: Measured) -> Labels | None:
    """Return the labelled pairs with a verdict of the judge; None if there are none."""
    if not measured.labels:
        return None
    prompt, judged, human = np.array(measured.labels, dtype=float).T
    return Labels(judged, human, prompt.astype(np.int64))


def refusal(measured: Measured) -> str:
    """Return why the labels cannot correct any win rate, with a cure; empty if they can or if there are none."""
    if measured.labels_fault:
        return measured.labels_fault
    every = labels_of(measured)
    if every is None:
        return ""
    total, labels = len(every.human), every.decided()
    if total < FEWEST:
        return f"{total} labelled pairs are too few; label at least {FEWEST}"
    if len(labels.human) < FEWEST:
        some = (
            f"only {len(labels.human)} of {total} labels are not ties"
            if len(labels.human)
            else f"all {total} labels are ties"
        )
        cure = f"label at least {FEWEST} pairs in which one answer is better"
        return f"{some}, and a tie cannot show an error of the judge; {cure}"
    if not no_better_than_chance(labels):
        return ""
    return _too_little(labels) or _no_better(labels)


def _too_little(labels: Labels) -> str:
    """Return why the labels are too few or too alike to show that a judge is better than chance; empty if they can."""
    total, prompts = len(labels.human), len(np.unique(labels.prompt))
    if (labels.judged == HALF).all():
        return f"the judge calls each of the {total} labelled pairs a tie; choose another judge"
    if prompts < FEWEST and labels.agreement.mean() > HALF:
        some = "one prompt" if prompts == 1 else f"{prompts} prompts"
        cure = f"label answers to at least {FEWEST} prompts"
        return f"all {total} labels are of answers to {some}, which say little about other prompts; {cure}"
    return ""


def _no_better(labels: Labels) -> str:
    """Return that the judge agrees with people no more often than chance, with the 95% interval and a cure."""
    agreed, (low, high) = 100 * float(labels.agreement.mean()), agreement_interval(labels)
    kind = "worse than" if high < HALF else "no better than"
    cure = "choose another judge" if high < HALF else "choose another judge, or label more pairs"
    return (
        f"the judge agrees with {agreed:.0f}% of {len(labels.human)} labels ({100 * low:.0f} to {100 * high:.0f}), "
        f"{kind} chance; {cure}"
    )


@dataclass(frozen=True)
class _Judged:
    """The judge's and people's verdicts on the prompts where the model's answer differs from the base's.

    Attributes:
        won: (m,) judge's win of the model, in [0, 1]; NaN if the verdict is missing.
        human: (m,) people's win of the model, in [0, 1]; NaN without a label.
        same: (n,) mask of all prompts, True where both answers are the same.
    """

    won: Values
    human: Values
    same: NDArray[np.bool_]

    @classmethod
    def of(cls, measured: Measured, base: Measured | None) -> _Judged | None:
        """Collect the verdicts; None without a base, without verdicts, or if the labels cannot correct win rates."""
        if base is None or not measured.labels or not measured.preferences or refusal(measured):
            return None
        won, human = np.array(measured.preferences, dtype=float) - 1, np.array(measured.human, dtype=float)
        same = np.array([a == b for a, b in zip(measured.answers, base.answers, strict=True)])
        return cls(won[~same], human[~same], same)

    @property
    def own(self) -> Labels:
        """Labels of pairs of the model's own answer and the base's."""
        at = np.flatnonzero(np.isfinite(self.human) & np.isfinite(self.won))
        return Labels(self.won[at], self.human[at], at)

    def everything(self, measured: Measured) -> Labels:
        """Return all labelled pairs, with prompts numbered as in `won`; prompts with equal answers come after those."""
        prompt, judged, human = np.array(measured.labels, dtype=float).T
        index = np.where(self.same, len(self.won) + np.cumsum(self.same) - 1, np.cumsum(~self.same) - 1)
        return Labels(judged, human, index[prompt.astype(np.int64)])


def by_rogan_gladen(measured: Measured, base: Measured | None) -> tuple[Corrected, str] | None:
    """Correct the win rate by the judge's error rates (Rogan & Gladen).

    If enough of the model's own answers have labels, the error rates q_0 and q_1 are estimated on these. Else all
    labelled pairs are used, on the assumption that the judge errs equally often whichever answer is better.

    Returns:
        The corrected win rate, and a phrase for the labels used; None if the labels cannot correct it.
    """
    judged = _Judged.of(measured, base)
    if judged is None:
        return None
    own = rogan_gladen(judged.won, judged.own, symmetric=False)
    if own is not None:
        return with_ties(own, judged.same), _own_answers(judged)
    labels = judged.everything(measured)
    every = rogan_gladen(judged.won, labels)
    left_out = f" ({labels.ties} ties are left out)" if labels.ties else ""
    return None if every is None else (with_ties(every, judged.same), f"answers to these prompts{left_out}")


def _own_answers(judged: _Judged) -> str:
    """Return the phrase for labels of the model's own answers, with the number of ties."""
    ties = judged.own.ties
    return f"its own answers, {ties} of them ties" if ties else "its own answers"


def by_prediction(measured: Measured, base: Measured | None) -> tuple[Corrected, str] | None:
    """Correct the win rate by prediction-powered inference.

    Returns:
        The corrected win rate, and a phrase for the labels used; None if too few of the model's own answers have
        labels.
    """
    judged = _Judged.of(measured, base)
    rate = None if judged is None else prediction_powered(judged.won, judged.human)
    return None if judged is None or rate is None else (with_ties(rate, judged.same), _own_answers(judged))


Method = Callable[[Measured, Measured | None], tuple[Corrected, str] | None]


def _rates(method: Method) -> PooledEstimator:
    """Return a `pooled` function that corrects each model's win rate by one method."""

    def rates(models: Mapping[str, Measured], base: str) -> dict[str, Noted]:
        out = {}
        for name, measured in models.items():
            rate = method(measured, models.get(base)) if name != base else None
            if rate is not None:
                corrected, labelled = rate
                precision = f"as precise as about {corrected.effective:.0f} labels without a judge"
                out[name] = Noted(corrected.estimate, f"from {corrected.labels} labels of {labelled}, {precision}")
        return out

    return rates


def _rows(method: Method) -> RowsFunction:
    def rows(measured: Measured, base: Measured | None) -> Values | None:
        rate = method(measured, base)
        return None if rate is None else rate[0].rows

    return rows


WIN_RATE_RG = register(Metric(
    "win_rate_rg", "win rate, corrected (Rogan-Gladen)", "prompts", higher_is_better=True, percent=True,
    needs_baseline=True, judged=True, base_value=HALF, position=1, phrase="a corrected win rate against the base",
    description="win rate corrected by the judge's error rates on labelled pairs; the interval includes their error",
    rows=_rows(by_rogan_gladen), pooled=_rates(by_rogan_gladen),
))  # fmt: skip
WIN_RATE_PPI = register(Metric(
    "win_rate_ppi", "win rate, corrected (prediction-powered)", "prompts", higher_is_better=True, percent=True,
    needs_baseline=True, judged=True, base_value=HALF, position=2, phrase="a corrected win rate against the base",
    description="win rate corrected by the judge's errors on the model's own labelled answers",
    rows=_rows(by_prediction), pooled=_rates(by_prediction),
))  # fmt: skip
