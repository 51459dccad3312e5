"""Win rates corrected for the judge's errors, beside the raw one: by Rogan & Gladen, and prediction-powered."""

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
    """Return the labelled pairs that the judge gave a verdict on; None if there are none."""
    if not measured.labels:
        return None
    prompt, judged, human = np.array(measured.labels, dtype=float).T
    return Labels(judged, human, prompt.astype(np.int64))


def refusal(measured: Measured) -> str:
    """Return why no win rate is corrected, in words with a cure; empty if they are, or there are no labels."""
    if measured.labels_fault:
        return measured.labels_fault
    every = labels_of(measured)
    if every is None:
        return ""
    total, labels = len(every.human), every.decided()
    if total < FEWEST:
        return f"{total} labelled pairs are too few; label {FEWEST} at least"
    if len(labels.human) < FEWEST:
        some = (
            f"only {len(labels.human)} of {total} labels are no ties"
            if len(labels.human)
            else f"all {total} labels are ties"
        )
        cure = f"label {FEWEST} pairs at least of which one answer is better"
        return f"{some}, and a tie shows no error of the judge; {cure}"
    if not no_better_than_chance(labels):
        return ""
    return _too_little(labels) or _no_better(labels)


def _too_little(labels: Labels) -> str:
    """Return why labels cannot show whether a judge is better than chance, however it judges; empty if they can."""
    total, prompts = len(labels.human), len(np.unique(labels.prompt))
    if (labels.judged == HALF).all():
        return f"the judge calls all {total} labelled pairs a tie; choose another judge"
    if prompts < FEWEST and labels.agreement.mean() > HALF:
        some = "one prompt" if prompts == 1 else f"{prompts} prompts"
        cure = f"label answers to {FEWEST} prompts at least"
        return f"all {total} labels are of answers to {some}, which say little of other prompts; {cure}"
    return ""


def _no_better(labels: Labels) -> str:
    agreed, (low, high) = 100 * float(labels.agreement.mean()), agreement_interval(labels)
    kind = "worse than" if high < HALF else "no better than"
    cure = "choose another judge" if high < HALF else "choose another judge, or label more pairs"
    return (
        f"the judge agrees with {agreed:.0f}% of {len(labels.human)} labels ({100 * low:.0f} to {100 * high:.0f}), "
        f"{kind} chance; {cure}"
    )


@dataclass(frozen=True)
class _Judged:
    """Prompts on which a model's answer is not the base's: the judge's wins, people's, and which others are `same`."""

    won: Values
    human: Values
    same: NDArray[np.bool_]

    @classmethod
    def of(cls, measured: Measured, base: Measured | None) -> _Judged | None:
        """Return the corrected rate; None if nothing was judged beside labelled pairs, or labels correct nothing."""
        if base is None or not measured.labels or not measured.preferences or refusal(measured):
            return None
        won, human = np.array(measured.preferences, dtype=float) - 1, np.array(measured.human, dtype=float)
        same = np.array([a == b for a, b in zip(measured.answers, base.answers, strict=True)])
        return cls(won[~same], human[~same], same)

    @property
    def own(self) -> Labels:
        """The labels of the model's own answers against the base's."""
        at = np.flatnonzero(np.isfinite(self.human) & np.isfinite(self.won))
        return Labels(self.won[at], self.human[at], at)

    def everything(self, measured: Measured) -> Labels:
        """Return all labelled pairs; prompts of which this model is not judged have numbers past the others."""
        prompt, judged, human = np.array(measured.labels, dtype=float).T
        place = np.where(self.same, len(self.won) + np.cumsum(self.same) - 1, np.cumsum(~self.same) - 1)
        return Labels(judged, human, place[prompt.astype(np.int64)])


def by_rogan_gladen(measured: Measured, base: Measured | None) -> tuple[Corrected, str] | None:
    """Return the win rate corrected by the judge's rates of error, and what was labelled; None if nothing corrects it.

    With enough labels of the model's own answers, q_0 and q_1 are of these; else the judge is taken to err as often on
    all labelled pairs, whichever answer is better.
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
    """Return in words that the model's own answers were labelled, and how many labels are ties."""
    ties = judged.own.ties
    return f"its own answers, {ties} of them ties" if ties else "its own answers"


def by_prediction(measured: Measured, base: Measured | None) -> tuple[Corrected, str] | None:
    """Return the prediction-powered win rate, and what was labelled; None without labels of the model's own answers."""
    judged = _Judged.of(measured, base)
    rate = None if judged is None else prediction_powered(judged.won, judged.human)
    return None if judged is None or rate is None else (with_ties(rate, judged.same), _own_answers(judged))


Method = Callable[[Measured, Measured | None], tuple[Corrected, str] | None]


def _rates(method: Method) -> PooledEstimator:
    def rates(models: Mapping[str, Measured], base: str) -> dict[str, Noted]:
        out = {}
        for name, measured in models.items():
            rate = method(measured, models.get(base)) if name != base else None
            if rate is not None:
                corrected, labelled = rate
                worth = f"worth about {corrected.effective:.0f} labels alone"
                out[name] = Noted(corrected.estimate, f"from {corrected.labels} labels of {labelled}, {worth}")
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
    description="the win rate corrected by how often the judge errs on labelled pairs, whose uncertainty it carries",
    rows=_rows(by_rogan_gladen), pooled=_rates(by_rogan_gladen),
))  # fmt: skip
WIN_RATE_PPI = register(Metric(
    "win_rate_ppi", "win rate, corrected (prediction-powered)", "prompts", higher_is_better=True, percent=True,
    needs_baseline=True, judged=True, base_value=HALF, position=2, phrase="a corrected win rate against the base",
    description="the judge's win rate corrected by its errors on the model's own labelled answers",
    rows=_rows(by_prediction), pooled=_rates(by_prediction),
))  # fmt: skip
