"""Measure win rates along a training: a judge compares answers at each point of the frontier with the base's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from prefzoo.evals.judges.coverage import Coverage, coverage
from prefzoo.evals.judges.protocol import Answer, Comparison, Judge
from prefzoo.evals.metrics.frontier import FrontierPoint
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.stages.judge import verdicts_of
from prefzoo.runtime.progress import stage

METRIC = "win_rate"
NOBODY = coverage([])  # is asked
EVEN = 0.5  # what the base wins against itself
Points = Mapping[str, Mapping[int, FrontierPoint]]  # of a variant, by step; step 0 is the base


def with_win_rates(experiment: Experiment, judge: Judge | None, points: Points) -> tuple[Points, Coverage]:
    """Have the judge compare the sampled answers; its verdicts replace the points' rewards.

    Args:
        experiment: what was trained.
        judge: of the recipe. The verifier scored each answer where it was sampled, and is not asked.
        points: of every variant, the base at step 0.

    Returns:
        The points with a win rate against the base, unchanged if no judge runs or too many verdicts are missing; and
        the number of verdicts.
    """
    rows, console = experiment.prompts[: experiment.recipe.evals.kl], experiment.console
    if judge is None or not rows or (judge.needs_checks and judge.free):
        return points, NOBODY
    places = [(name, step) for name, steps in points.items() for step in sorted(steps) if step]
    comparisons = [
        Comparison(row, Answer(base, True, 0), Answer(own, True, 0))
        for name, step in places
        for row, base, own in zip(rows, points[name][0].answers, points[name][step].answers, strict=True)
    ]
    if not comparisons:
        return points, NOBODY
    forecast = judge.forecast(comparisons)
    if forecast:
        console.print(f"win rates along the training: {forecast}", soft_wrap=True, markup=False, emoji=False)
    with stage("judging answers along the training", "calls", console) as report:
        verdicts = verdicts_of(judge, comparisons, report)
    cover = coverage(verdicts)
    if cover.missing:
        console.print(f"win rates along the training: {cover.summary()}", soft_wrap=True, markup=False, emoji=False)
    if cover.withheld:
        return points, cover
    won = iter([None if v.missing else v.preference - 1 for v in verdicts])
    judged = {name: {0: replace(steps[0], reward=[EVEN] * len(rows), metric=METRIC)} for name, steps in points.items()}
    for name, step in places:
        own = [next(won) for _ in rows]
        judged[name][step] = replace(points[name][step], reward=[w for w in own if w is not None], metric=METRIC)
    return judged, cover
