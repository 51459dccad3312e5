"""How good a judge is: agreement with labelled pairs, flips when answers swap, position bias and length bias."""

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
    """A pair whose better answer is known, or of which neither is better (`tie`).

    Attributes:
        annotator: who labelled it, as far as the file says.
    """

    row: PromptRow
    chosen: Answer
    rejected: Answer
    tie: bool = False
    annotator: str = ""


@dataclass(frozen=True)
class Quality:
    """How good a judge is; an estimate over nothing has n = 0.

    Attributes:
        agreement: share of labels it agrees with; a tie counts half.
        flips: share of comparisons whose winner changes when the answers swap, of those asked in both orders.
        first_position: share won by the answer shown first, of all single verdicts that name a winner.
        longer_wins: share won by the longer answer, of verdicts that name a winner between answers of different length.
        longer_is_better: the same share among the labels themselves, for comparison.
        ties: how many verdicts are ties.
        tied_labels: how many labelled pairs have no better answer; none of them is in any of the numbers.
        left_out: how many rows of the labels' file are not used, by reason.
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
    """Measure a judge on labelled pairs. Which answer comes first alternates, so that neither position is the better's.

    Args:
        judge: any judge.
        pairs: labelled pairs; ties are counted and left out, since no verdict on a tie is right or wrong.
        report: called with the number of finished calls and of all.

    Returns:
        Its quality, with intervals.

    Raises:
        UserError: there are no pairs, or all are ties.
    """
    total, pairs = len(pairs), [p for p in pairs if not p.tie]
    if total and not pairs:
        raise UserError(f"labelled pairs: all {total} are ties, on which no verdict is right or wrong; label others")
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
    """Return whether the first position won, of each order that names a winner; below a tie the first answer wins."""
    straight, swapped = v.orders
    return [won for won, clear in ((straight < TIE, straight != TIE), (swapped > TIE, swapped != TIE)) if clear]
