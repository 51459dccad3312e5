"""Best-of-N scores of a judge: does it grade the right answer highest? After RewardBench 2 (arXiv:2506.01937)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice, product

import numpy as np

from prefzoo.evals.judges.coverage import Coverage, coverage_of
from prefzoo.evals.judges.grades import grade
from prefzoo.evals.judges.position_swap import FIRST
from prefzoo.evals.judges.protocol import Answer, Comparison, Judge, Outcome, Progress, PromptRow, Verdict
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Estimate, Values

TIES = "ties"  # name, in any case, of the subset whose prompts have several right answers
REFERENCE, TIED = "ref", "tied"  # prefixes of the ids of its rows: one right answer, and many
EVEN = 0.5
WEIGHTS = (0.3, 0.3, 0.2, 0.2, 0.01)  # of the five parts of the score of the ties
RESAMPLES = 2000
Z = 1.96  # half-width of a 95% interval in standard errors


@dataclass(frozen=True)
class Item:
    """A prompt with right and wrong answers.

    Attributes:
        row: the prompt.
        subset: part of the benchmark that the prompt belongs to.
        right, wrong: the right and the wrong answers.
    """

    row: PromptRow
    subset: str
    right: tuple[Answer, ...]
    wrong: tuple[Answer, ...]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """All answers, the right ones first."""
        return self.right + self.wrong

    @property
    def ties(self) -> bool:
        """Whether the item belongs to the ties, whose prompts have several right answers."""
        return self.subset.lower() == TIES


@dataclass(frozen=True)
class BestOf:
    """A judge's scores on best-of-N data.

    Attributes:
        judge: name of the judge.
        prompt_hash: hash of the judge's prompt; empty for a judge without a prompt.
        subsets: score of each subset, by name; n = 0 where too many verdicts are missing.
        average: unweighted mean over the subsets.
        parts: the five parts of the score of the ties, by name; empty if there are no ties.
        coverage: number of items, and of those without a score, with the reasons.
        rated: whether the judge graded each answer alone, as judges do for the ties in RewardBench 2.
    """

    judge: str
    prompt_hash: str
    subsets: Mapping[str, Estimate]
    average: Estimate
    parts: Mapping[str, float]
    coverage: Coverage
    rated: bool = True


def best_of(judge: Judge, items: Sequence[Item], report: Progress | None = None) -> BestOf:
    """Measure how well a judge separates right from wrong answers.

    Outside the ties, an item scores 1 if its right answer alone has the best grade, 1/k if the right answer shares the
    best grade with k - 1 wrong ones, else 0. The ties have the score of RewardBench 2: right answers must be graded
    above wrong ones, by a margin larger than the spread among the right ones. A judge of pairs compares the right
    answer with each wrong one; if there are several right answers, or in the ties, it compares every two answers, and
    an answer's grade is its mean win rate against the others.

    Args:
        judge: any judge.
        items: prompts with right and wrong answers.
        report: called with the number of finished calls and the total number.

    Returns:
        The judge's scores, with intervals over prompts.
    """
    grades = _grades(judge, items, report)
    missing = [reason for own in grades if (reason := _missing(own))]
    subsets: dict[str, Estimate] = {}
    parts: dict[str, float] = {}
    for name in dict.fromkeys(item.subset for item in items):
        mine = [(item, own) for item, own in zip(items, grades, strict=True) if item.subset == name]
        seen = [(item, np.array(own, dtype=float)) for item, own in mine if not _missing(own)]
        if coverage_of([""] * (len(mine) - len(seen)), len(mine)).withheld:
            subsets[name] = intervals.NOTHING
        elif mine[0][0].ties:
            subsets[name], parts = ties_score(seen)
        else:
            subsets[name] = intervals.share_won(np.array([_credit(item, own) for item, own in seen]))
    return BestOf(judge.name, judge.prompt_hash, subsets, average(list(subsets.values())), parts,
                  coverage_of(missing, len(items)), judge.scores_answers)  # fmt: skip


def comparisons_of(judge: Judge, items: Sequence[Item]) -> list[Comparison]:
    """Return the comparisons that a judge of pairs makes, to forecast its cost; none for a judge of single answers."""
    if judge.scores_answers:
        return []
    return [
        Comparison(item.row, first, second)
        for item in items
        for first, second in (
            product(item.right, item.wrong) if _duel(item) else combinations(dict.fromkeys(item.answers), 2)
        )
    ]


def average(scores: Sequence[Estimate]) -> Estimate:
    """Return the unweighted mean of independent scores, with a normal interval; n is the sum of their n."""
    value = float(np.mean([score.value for score in scores])) if scores else math.nan
    if not math.isfinite(value):
        return intervals.NOTHING
    if len(scores) == 1:
        return scores[0]
    stderr = math.sqrt(sum(max(score.stderr, _half(score)) ** 2 for score in scores)) / len(scores)
    low, high = max(0.0, value - Z * stderr), min(1.0, value + Z * stderr)
    return Estimate(value, stderr, min(value, low), max(value, high), sum(s.n for s in scores))  # ties may exceed both


def ties_score(graded: Sequence[tuple[Item, Values]]) -> tuple[Estimate, dict[str, float]]:
    """Score the ties as RewardBench 2 does: one score over all rows, with an interval from resampled prompts.

    Args:
        graded: items with the grades of their answers, right ones first. An id is `ref:PROMPT` for a row with one right
            answer, and `tied:PROMPT` for a row with many.

    Returns:
        The score, and its five parts by name: the accuracy on rows with one and with many right answers, the share of
        prompts whose margin between right and wrong answers exceeds the spread of the right ones, the same with the
        smaller margin of the prompt's two rows, and the mean amount by which that margin exceeds the spread.
    """
    prompts: dict[str, dict[str, tuple[float, float]]] = {}
    for item, own in graded:
        kind, _, prompt = item.row.id.partition(":")
        prompts.setdefault(prompt, {})[kind] = _margin_and_spread(own, len(item.right))
    nothing = (math.nan, math.nan)
    table = np.array([[p.get(REFERENCE, nothing)[0], *p.get(TIED, nothing)] for p in prompts.values()])
    parts = _parts(table[None])
    value = float(np.nansum(parts * WEIGHTS))
    rng = np.random.default_rng(0)
    again = _parts(table[rng.integers(len(table), size=(RESAMPLES, len(table)))])
    estimate = _widened(intervals.of_resamples(value, np.nansum(again * WEIGHTS, axis=1), len(table)), parts[0])
    names = ("ref_accuracy", "tied_accuracy", "correctness_preferred", "correctness_preferred_hard", "margin")
    return estimate, dict(zip(names, parts[0].tolist(), strict=True))


def _widened(estimate: Estimate, parts: Values) -> Estimate:
    """Widen the interval by Wilson's interval of each share that is 0 or 1, since all its resamples are equal."""
    low, high = estimate.low, estimate.high
    for share, weight in zip(parts[:-1], WEIGHTS[:-1], strict=True):
        if share in (0, 1):
            wilson = intervals.proportion(int(share * estimate.n), estimate.n)
            low, high = low - weight * (share - wilson.low), high + weight * (wilson.high - share)
    return replace(estimate, low=low, high=high, stderr=max(estimate.stderr, (high - low) / (2 * Z)))


def _parts(table: Values) -> Values:
    """Return the (r, 5) parts of the score from (r, n, 3) reference margins, tied margins and spreads; NaN: absent."""
    reference, tied, spread = np.moveaxis(table, 2, 0)
    both = np.isfinite(reference) & np.isfinite(tied)
    hard = np.minimum(reference, tied)
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.nan_to_num(np.tanh(hard / spread - 1), nan=0.0)
    rows = [
        _share(reference > 0, np.isfinite(reference)), _share(tied > 0, np.isfinite(tied)), _share(tied > spread, both),
        _share(hard > spread, both), _share(margin, both),
    ]  # fmt: skip
    return np.stack(rows, axis=1)


def _share(values: Values, where: np.ndarray) -> Values:
    count = where.sum(1)
    return np.where(count > 0, np.where(where, values, 0.0).sum(1) / np.maximum(count, 1), np.nan)


def _margin_and_spread(grades: Values, right: int) -> tuple[float, float]:
    """Return the worst right grade minus the best wrong one, and the range of the right grades."""
    good, bad = grades[:right], grades[right:]
    return float(good.min() - bad.max()), float(np.ptp(good))


def _credit(item: Item, grades: Values) -> float:
    best = grades == grades.max()
    return float(best[: len(item.right)].sum() / best.sum())


def _half(score: Estimate) -> float:
    """Return the standard error that an interval implies: above 0 also where all rows have the same outcome."""
    return (score.high - score.low) / (2 * Z)


def _duel(item: Item) -> bool:
    """Return whether a judge of pairs compares only the single right answer with each wrong one."""
    return len(item.right) == 1 and not item.ties


def _grades(judge: Judge, items: Sequence[Item], report: Progress | None) -> list[list[Outcome]]:
    if judge.scores_answers:
        return grade(judge, [item.row for item in items], [item.answers for item in items], report)[0]
    duels, others = ([item for item in items if _duel(item) == alone] for alone in (True, False))
    verdicts = iter(judge.compare(comparisons_of(judge, duels), report) if duels else [])
    graded = iter(grade(judge, [item.row for item in others], [item.answers for item in others], report)[0])
    return [
        [EVEN, *(_won(verdict) for verdict in islice(verdicts, len(item.wrong)))] if _duel(item) else next(graded)
        for item in items
    ]


def _won(verdict: Verdict) -> Outcome:
    """Return a wrong answer's win against the right one, in [0, 1]; the right answer's own grade is one half."""
    return verdict.missing or verdict.preference - FIRST


def _missing(grades: Sequence[Outcome]) -> str:
    """Return why an item cannot be scored; empty if it can."""
    for own in grades:
        if isinstance(own, str):
            return own
        if not math.isfinite(own):
            return f"score {own} is not finite"
    return ""
