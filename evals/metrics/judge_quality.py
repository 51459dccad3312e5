"""Quality of a judge: agreement with labelled pairs, flips when answers swap, position bias and length bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from prefzoo.errors import UserError
from prefzoo.evals.judges.coverage import Coverage, coverage
from prefzoo.evals.judges.protocol import TIE, Answer, Comparison, Judge, Progress, PromptRow, Verdict
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Estimate

BOTH = 2  # orders


@dataclass(frozen=True)
class LabelledPair:
    """A pair of answers that a person labelled.

    Attributes:
        row: the prompt.
        chosen, rejected: the better and the worse answer, in any order if `tie` is True.
        tie: whether neither answer is better.
        annotator: who labelled the pair; empty if the file does not say.
    """

    row: PromptRow
    chosen: Answer
    rejected: Answer
    tie: bool = False
    annotator: str = ""


@dataclass(frozen=True)
class Quality:
    """The quality of a judge. An estimate without data has n = 0.

    Attributes:
        judge: name of the judge.
        prompt_hash: hash of the judge's prompt; empty for a judge without a prompt.
        agreement: share of labels that the judge agrees with; a tied verdict counts half.
        flips: share of the comparisons asked in both orders whose winner changes when the answers swap.
        first_position: share won by the answer shown first, among the single verdicts that name a winner, of
            comparisons asked in both orders.
        longer_wins: share won by the longer answer, among verdicts that name a winner and whose answers differ in
            length.
        longer_is_better: share of labels whose chosen answer is the longer one, among answers that differ in length.
        ties: number of verdicts that are ties.
        coverage: number of verdicts asked for, and of missing ones, with the reasons.
        tied_labels: number of labelled pairs without a better answer; they count in no other number.
        left_out: number of unused rows in the file of labels, by reason.
    """

    judge: str
    prompt_hash: str
    agreement: Estimate
    flips: Estimate
    first_position: Estimate
    longer_wins: Estimate
    longer_is_better: Estimate
    ties: int
    coverage: Coverage
    tied_labels: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


def quality(judge: Judge, pairs: Sequence[LabelledPair], report: Progress | None = None) -> Quality:
    """Measure a judge on labelled pairs. The chosen answer is shown first in every other pair.

    Args:
        judge: any judge.
        pairs: labelled pairs; ties are counted and left out, since no verdict on a tie is right or wrong.
        report: called with the number of finished calls and the total number.

    Returns:
        The judge's quality, with intervals.

    Raises:
        UserError: there are no pairs, or all are ties.
    """
    total, pairs = len(pairs), [p for p in pairs if not p.tie]
    if total and not pairs:
        raise UserError(f"labelled pairs: all {total} are ties, so no verdict is right or wrong; label other pairs")
    if not pairs:
        raise UserError("labelled pairs: none; give rows with prompt, chosen and rejected")
    comparisons = [
        Comparison(p.row, p.chosen, p.rejected) if i % BOTH == 0 else Comparison(p.row, p.rejected, p.chosen)
        for i, p in enumerate(pairs)
    ]
    verdicts = judge.compare(comparisons, report)
    cover = coverage(verdicts)
    chosen_first = np.arange(len(pairs)) % BOTH == 0
    second = np.array([v.preference for v in verdicts]) - TIE  # above 0: the second answer wins
    right = intervals.correct(np.where(chosen_first, -second, second))
    longer = np.sign([len(c.second.text) - len(c.first.text) for c in comparisons]) * np.sign(second)
    label = np.sign([len(p.chosen.text) - len(p.rejected.text) for p in pairs])
    return Quality(
        judge.name, judge.prompt_hash,
        intervals.NOTHING if cover.withheld else intervals.mean(right),
        _share([_flips(v) for v in verdicts if len(v.orders) == BOTH]),
        _share([x for v in verdicts if len(v.orders) == BOTH for x in _first_position_wins(v)]),
        _share(longer[np.isfinite(longer) & (longer != 0)] > 0),
        _share(label[label != 0] > 0), int((second == 0).sum()), cover,
        total - len(pairs),
    )  # fmt: skip


def _share(cases: Sequence[bool] | np.ndarray) -> Estimate:
    return intervals.proportion(int(np.sum(cases)), len(cases)) if len(cases) else intervals.NOTHING


def _flips(v: Verdict) -> bool:
    straight, swapped = (np.sign(x - TIE) for x in v.orders)
    return bool(straight != swapped)


def _first_position_wins(v: Verdict) -> list[bool]:
    """Return for each order that names a winner whether the answer shown first won."""
    straight, swapped = v.orders
    return [won for won, clear in ((straight < TIE, straight != TIE), (swapped > TIE, swapped != TIE)) if clear]
