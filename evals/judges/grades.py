"""Grade several answers to one prompt with any judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import mean

from prefzoo.evals.judges.position_swap import FIRST, SECOND
from prefzoo.evals.judges.protocol import TIE, Answer, Comparison, Judge, Outcome, Progress, PromptRow, Verdict

ALONE = "no other answer to compare with"


def grade(
    judge: Judge, rows: Sequence[PromptRow], answers: Sequence[Sequence[Answer]], report: Progress | None = None
) -> tuple[list[list[Outcome]], list[Verdict]]:
    """Grade each answer to each prompt.

    With a judge that scores single answers, a grade is a score. With any other judge, a grade is the mean win rate of
    an answer against the other answers to its prompt. That judge compares every two distinct answers; empty and
    cut-off answers get no grade.

    Args:
        judge: any judge.
        rows: the prompts.
        answers: the answers to each prompt.
        report: called with the number of finished calls and of all calls.

    Returns:
        For each prompt, the grade of each answer (higher is better) or the reason for a missing one. And the verdicts
        that the grades come from; a score counts as a tie, so that only missing ones matter.

    Raises:
        UserError: the judge cannot judge at all, for example because its server is unreachable.
    """
    if not judge.scores_answers:
        return _win_rates(judge, rows, answers, report)
    flat = [(row, answer) for row, several in zip(rows, answers, strict=True) for answer in several]
    scores = judge.scores(flat, report)
    verdicts = [Verdict(math.nan, (), s) if isinstance(s, str) else Verdict(TIE) for s in scores]
    remaining = iter(scores)
    return [[next(remaining) for _ in several] for several in answers], verdicts


def _win_rates(
    judge: Judge, rows: Sequence[PromptRow], answers: Sequence[Sequence[Answer]], report: Progress | None
) -> tuple[list[list[Outcome]], list[Verdict]]:
    comparisons: list[Comparison] = []
    players: list[tuple[int, int]] = []  # for each comparison, the numbers of its two texts
    wins: list[list[float]] = []  # for each distinct text of a prompt, its results in [0, 1]
    failures: list[list[str]] = []  # for each distinct text, the reasons for missing verdicts
    text_of: list[list[int | None]] = []  # for each answer, the number of its text; None if it is cut off
    for row, several in zip(rows, answers, strict=True):
        distinct = {a.text: a for a in several if a.finished and a.text}
        number = {text: len(wins) + k for k, text in enumerate(distinct)}
        wins += [[] for _ in distinct]
        failures += [[] for _ in distinct]
        for left, right in combinations(distinct.values(), 2):
            comparisons.append(Comparison(row, left, right))
            players.append((number[left.text], number[right.text]))
        text_of.append([number.get(a.text) if a.finished else None for a in several])
    verdicts = judge.compare(comparisons, report) if comparisons else []
    for (first, second), verdict in zip(players, verdicts, strict=True):
        for player, won in ((first, SECOND - verdict.preference), (second, verdict.preference - FIRST)):
            if verdict.missing:
                failures[player].append(verdict.missing)
            else:
                wins[player].append(won)
    grades = [mean(won) if won else (failed or [ALONE])[0] for won, failed in zip(wins, failures, strict=True)]
    return [[ALONE if i is None else grades[i] for i in several] for several in text_of], verdicts
