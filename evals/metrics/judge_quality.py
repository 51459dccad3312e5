"""How good a judge is: agreement with labelled pairs, flips when seats swap, liking for a seat and for length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefzoo.errors import UserError
from prefzoo.evals.judges.coverage import Coverage, coverage
from prefzoo.evals.judges.protocol import TIE, Answer, Comparison, Judge, Progress, PromptRow, Verdict
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Estimate

NOTHING = Estimate(np.nan, np.nan, np.nan, np.nan, 0)
BOTH = 2  # seat orders


@dataclass(frozen=True)
class Labelled:
    """A pair whose better answer is known."""

    row: PromptRow
    chosen: Answer
    rejected: Answer


@dataclass(frozen=True)
class Quality:
    """What is known about a judge; an estimate over nothing has n = 0.

    Attributes:
        agreement: share of labels it agrees with; a tie counts half.
        flips: share of comparisons whose winner changes with the seats, of those asked both ways.
        first_seat: share won by whichever answer sat first, of all single verdicts that name a winner.
        longer_wins: share won by the longer answer, of verdicts that name a winner between answers of unlike length.
        longer_is_better: the same share among the labels themselves, to hold it against.
    """

    judge: str
    prompt_hash: str
    agreement: Estimate
    flips: Estimate
    first_seat: Estimate
    longer_wins: Estimate
    longer_is_better: Estimate
    ties: int
    coverage: Coverage


def quality(judge: Judge, pairs: Sequence[Labelled], report: Progress | None = None) -> Quality:
    """Ask about every pair; which answer comes first alternates, so that no seat is always the better one's.

    Raises:
        UserError: there are no pairs.
    """
    if not pairs:
        raise UserError("labelled pairs: none; give rows with prompt, chosen and rejected")
    asked = [
        Comparison(p.row, p.chosen, p.rejected) if i % BOTH == 0 else Comparison(p.row, p.rejected, p.chosen)
        for i, p in enumerate(pairs)
    ]
    verdicts = judge.compare(asked, report)
    cover = coverage(verdicts)
    chosen_first = np.arange(len(pairs)) % BOTH == 0
    second = np.array([v.preference for v in verdicts]) - TIE  # above 0: the second answer wins
    right = 0.5 + 0.5 * np.sign(np.where(chosen_first, -second, second))
    longer = np.sign([len(c.second.text) - len(c.first.text) for c in asked]) * np.sign(second)
    label = np.sign([len(p.chosen.text) - len(p.rejected.text) for p in pairs])
    return Quality(
        judge.name, judge.prompt_hash,
        NOTHING if cover.withheld else intervals.mean(right),
        _share([_flips(v) for v in verdicts if len(v.orders) == BOTH]),
        _share([x for v in verdicts if len(v.orders) == BOTH for x in _first_seat(v)]),
        _share(longer[np.isfinite(longer) & (longer != 0)] > 0),
        _share(label[label != 0] > 0), int((second == 0).sum()), cover,
    )  # fmt: skip


def _share(found: Sequence[bool] | np.ndarray) -> Estimate:
    return intervals.proportion(int(np.sum(found)), len(found)) if len(found) else NOTHING


def _flips(v: Verdict) -> bool:
    straight, swapped = (np.sign(x - TIE) for x in v.orders)
    return bool(straight != swapped)


def _first_seat(v: Verdict) -> list[bool]:
    """The first order names the first answer's seat by what is below a tie, the second by what is above."""
    straight, swapped = v.orders
    return [won for won, clear in ((straight < TIE, straight != TIE), (swapped > TIE, swapped != TIE)) if clear]
