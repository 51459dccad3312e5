"""Compare every variant with every other on the same prompts: win rates, Bradley-Terry scores, and rank sets.

A judge that scores answers one at a time (the verifier, a reward model) compares all pairs without further calls; a
judge of pairs is asked n(n - 1)/2 times per prompt for n variants. Intervals resample prompts, each with all of its
comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import evalica
import numpy as np
import pandas as pd
from evalica import Winner
from numpy.typing import NDArray

from prefzoo.errors import UserError
from prefzoo.evals.judges.coverage import Coverage, coverage
from prefzoo.evals.judges.protocol import Answer, Comparison, Judge, Progress, PromptRow
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Difference, Values

RESAMPLES = 500
TWO = 2  # variants in a comparison
LEVEL = 0.95
ALPHA = 1 - LEVEL
LIMIT, CLOSE = 10_000, 1e-9  # iterations and tolerance of evalica, whose defaults stop early if one wins nearly all
ELO = 400 / np.log(10)  # Elo points per nat of log-odds: 400 points are odds of ten to one
NOTE = (
    "\nWin rate of the row against the column. Bradley-Terry: strength in Elo points with its 95% interval; P(best): "
    "share of resampled sets of prompts in which it is the highest.\n"
)
PSEUDO = 0.5  # weight, in prompts, of a tie added to each pair, so that a variant that never lost has a finite score


@dataclass(frozen=True)
class RoundRobin:
    """The results of a round robin.

    Attributes:
        wins: win rate of the row's variant against the column's, in [0, 1]; NaN on the diagonal.
        scores: Bradley-Terry scores with bootstrap intervals over prompts, best first. Columns: score, low and high in
            Elo points with mean 0; p_best, the share of resamples with the highest score; best_rank and worst_rank.
        differences: difference of the mean win rates of every two variants, paired by prompt; p is Holm-corrected.
        coverage: number of verdicts asked for, and of missing ones, with the reasons.
    """

    wins: pd.DataFrame
    scores: pd.DataFrame
    differences: dict[tuple[str, str], Difference]
    coverage: Coverage


Won = Mapping[tuple[str, str], Values]  # (first, second) -> (n,) wins of the second in [0, 1]; NaN if missing


def play(
    judge: Judge, prompts: Sequence[PromptRow], answers: Mapping[str, Sequence[Answer]], report: Progress | None = None
) -> tuple[dict[tuple[str, str], Values], Coverage]:
    """Ask the judge to compare every two variants on every prompt.

    Args:
        judge: the judge.
        prompts: the prompts that the variants answered.
        answers: one answer per prompt, by variant.
        report: called with the number of finished comparisons and the total number.

    Returns:
        For every two variants in alphabetical order, the (n,) wins of the second in [0, 1], NaN where a verdict is
        missing; and the coverage of the judge's verdicts.

    Raises:
        UserError: there are fewer than two variants, or a variant does not have one answer per prompt.
    """
    if len(answers) < TWO:
        raise UserError(f"round robin: {len(answers)} variants; it takes at least two")
    uneven = [f"{n}: {len(a)} answers to {len(prompts)} prompts" for n, a in answers.items() if len(a) != len(prompts)]
    if uneven:
        raise UserError(f"round robin: {line}; give one for each" for line in uneven)
    pairs = _pairs(sorted(answers))
    asked = [
        Comparison(row, one, two)
        for a, b in pairs
        for row, one, two in zip(prompts, answers[a], answers[b], strict=True)
    ]
    verdicts = judge.compare(asked, report)
    won = np.array([v.preference - 1 for v in verdicts]).reshape(len(pairs), len(prompts))
    return dict(zip(pairs, won, strict=True)), coverage(verdicts)


def round_robin(won: Won, cover: Coverage, seed: int = 0, resamples: int = RESAMPLES) -> RoundRobin:
    """Score and rank variants by their wins against each other.

    Args:
        won: wins of the second of every two variants, as `play` returns them.
        cover: coverage of the judge's verdicts.
        seed: seed of the resampling of prompts.
        resamples: number of resamples.

    Returns:
        Win rates, Bradley-Terry scores with intervals, rank sets, and differences.

    Raises:
        UserError: more than 5% of the verdicts are missing.
    """
    if cover.withheld:
        raise UserError(f"round robin: {cover.summary()}; fix the judge and run again")
    names = sorted({name for pair in won for name in pair})
    table = np.stack([won[pair] for pair in _pairs(names)])
    rng = np.random.default_rng(seed)
    n = table.shape[1]
    counts = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=resamples)])
    scores = np.stack([_bradley_terry(table, names, row) for row in counts])
    differences = _differences(won, seed)
    return RoundRobin(_matrix(won, names), _scored(names, scores, differences), differences, cover)


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def _bradley_terry(table: Values, names: Sequence[str], counts: Values) -> Values:
    """Return (variants,) scores in Elo points with mean 0; a win of 0.7 counts as 0.7 wins and 0.3 losses."""
    seen = np.where(np.isfinite(table), counts, 0.0)
    second = (seen * np.nan_to_num(table)).sum(1) + PSEUDO / TWO
    first = seen.sum(1) + PSEUDO - second
    xs, ys = zip(*_pairs(names), strict=True)
    fit = evalica.bradley_terry(
        [*xs, *xs], [*ys, *ys], [Winner.X] * len(xs) + [Winner.Y] * len(xs), index=pd.Index(names),
        weights=[*first.tolist(), *second.tolist()], tolerance=CLOSE, limit=LIMIT,
    )  # fmt: skip
    strength = np.log(fit.scores.reindex(names).to_numpy(dtype=float))
    return np.asarray(ELO * (strength - strength.mean()))


def _matrix(won: Won, names: Sequence[str]) -> pd.DataFrame:
    matrix = pd.DataFrame(np.nan, index=list(names), columns=list(names))
    for (first, second), values in won.items():
        rate = float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
        matrix.loc[second, first], matrix.loc[first, second] = rate, 1 - rate
    return matrix


def _differences(won: Won, seed: int) -> dict[tuple[str, str], Difference]:
    """Return the differences of every two variants' mean win rates against all others, paired by prompt."""
    names = sorted({name for pair in won for name in pair})
    mean = {name: _against_all(won, name) for name in names}
    gaps = intervals.paired_differences(mean, seed)
    p = intervals.holm([d.p for d in gaps.values()])
    return {
        pair: Difference(d.value, d.low, d.high, corrected)
        for (pair, d), corrected in zip(gaps.items(), p, strict=True)
    }


def _against_all(won: Won, name: str) -> Values:
    """Return a variant's (n,) wins, averaged over its opponents; NaN for a prompt with a missing verdict."""
    parts = [
        values if second == name else 1 - values for (first, second), values in won.items() if name in (first, second)
    ]
    return np.asarray(np.mean(parts, axis=0))


def _scored(
    names: list[str], scores: NDArray[np.float64], differences: Mapping[tuple[str, str], Difference]
) -> pd.DataFrame:
    value, again = scores[0], scores[1:]
    low, high = np.percentile(again, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)], axis=0)
    first = np.isclose(again, again.max(1, keepdims=True))  # ties share the first place
    best = (first / first.sum(1, keepdims=True)).mean(0)
    better, worse = _told_apart(names, differences)
    table = pd.DataFrame(
        {
            "score": value, "low": low, "high": high, "p_best": best,
            "best_rank": 1 + better, "worst_rank": len(names) - worse,
        },
        index=names,
    )  # fmt: skip
    return table.sort_values("score", ascending=False)


def _told_apart(
    names: list[str], differences: Mapping[tuple[str, str], Difference]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the variants that are significantly better, and worse, than each; they bound its rank (Mogstad 2024)."""
    better, worse = np.zeros(len(names), dtype=int), np.zeros(len(names), dtype=int)
    for (a, b), d in differences.items():
        if d.p <= ALPHA:
            up, down = (a, b) if d.value > 0 else (b, a)
            better[names.index(down)] += 1
            worse[names.index(up)] += 1
    return better, worse


def as_json(result: RoundRobin, judge: Judge) -> dict[str, Any]:
    """Return the content of `round_robin.json`, best variant first; `wins` is the row's against the column."""
    order = [str(name) for name in result.scores.index]
    wins = [[_number(result.wins.loc[row, column]) for column in order] for row in order]
    ranks = result.scores.astype({"best_rank": int, "worst_rank": int})
    scores = [{"variant": name, **row} for name, row in zip(order, ranks.to_dict("records"), strict=True)]
    differences = [{"first": a, "second": b, **asdict(d)} for (a, b), d in result.differences.items()]
    cover = result.coverage
    coverage = {"asked": cover.asked, "missing": cover.missing, "reason": cover.summary() if cover.missing else ""}
    return {
        "judge": judge.name, "prompt_hash": judge.prompt_hash, "variants": order, "wins": wins, "scores": scores,
        "differences": differences, "coverage": coverage,
    }  # fmt: skip


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def markdown(result: RoundRobin) -> str:
    """Return scores and win rates as one Markdown table, best first, without ranks: the leaderboard has these."""
    order = list(result.scores.index)
    head = "| variant | Bradley-Terry | P(best) | " + " | ".join(order) + " |\n"
    lines = [head, "|" + "---|" * (3 + len(order)) + "\n"]
    for name in order:
        s = result.scores.loc[name]
        rates = [f"{100 * result.wins.loc[name, other]:.1f}%" if other != name else "-" for other in order]
        score = f"{s.score:+.0f} [{s.low:+.0f}, {s.high:+.0f}]"
        lines.append(f"| {name} | {score} | {s.p_best:.2f} | " + " | ".join(rates) + " |\n")
    return "".join(lines) + NOTE + (f"{result.coverage.summary()}.\n" if result.coverage.missing else "")
