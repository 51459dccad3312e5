"""Several answers to one prompt, graded by any judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import mean

from prefzoo.evals.judges.position_swap import FIRST, SECOND
from prefzoo.evals.judges.protocol import TIE, Answer, Comparison, Grader, Judge, PromptRow, Verdict

Grade = float | str  # higher is better; or why there is none
ALONE = "no other answer to compare with"


def graded(
    judge: Judge, rows: Sequence[PromptRow], answers: Sequence[Sequence[Answer]]
) -> tuple[list[list[Grade]], list[Verdict]]:
    """A grade of each answer to each prompt, and the verdicts it rests on.

    A judge that sees one answer at a time gives its score. Any other compares every two of a prompt's answers (those
    that differ, and ended by themselves), in both seats: a grade is then the mean win rate against the others.

    Raises:
        UserError: the judge cannot judge at all.
    """
    if not isinstance(judge, Grader):
        return _played(judge, rows, answers)
    said = judge.scores([(row, a) for row, several in zip(rows, answers, strict=True) for a in several])
    verdicts = [Verdict(math.nan, (), s) if isinstance(s, str) else Verdict(TIE) for s in said]
    found = iter(said)
    return [[next(found) for _ in several] for several in answers], verdicts


def _played(
    judge: Judge, rows: Sequence[PromptRow], answers: Sequence[Sequence[Answer]]
) -> tuple[list[list[Grade]], list[Verdict]]:
    asked: list[Comparison] = []
    places: list[tuple[int, int]] = []  # of each comparison, where its two answers' wins go
    wins: list[tuple[list[float], list[str]]] = []
    at: list[list[int | None]] = []
    for row, several in zip(rows, answers, strict=True):
        distinct = {a.text: a for a in several if a.finished and a.text}
        number = {text: len(wins) + k for k, text in enumerate(distinct)}
        wins += [([], []) for _ in distinct]
        for one, two in combinations(distinct.values(), 2):
            asked.append(Comparison(row, one, two))
            places.append((number[one.text], number[two.text]))
        at.append([number.get(a.text) if a.finished else None for a in several])
    verdicts = judge.compare(asked) if asked else []
    for (left, right), verdict in zip(places, verdicts, strict=True):
        for place, won in ((left, SECOND - verdict.preference), (right, verdict.preference - FIRST)):
            if verdict.missing:
                wins[place][1].append(verdict.missing)
            else:
                wins[place][0].append(won)
    grades = [mean(won) if won else (lost or [ALONE])[0] for won, lost in wins]
    return [[ALONE if i is None else grades[i] for i in several] for several in at], verdicts
