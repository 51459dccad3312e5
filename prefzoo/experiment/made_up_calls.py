"""Call every plug-in of a recipe on two made-up pairs before hours of training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from time import monotonic

import torch

from prefzoo.errors import UserError, VariantFailed
from prefzoo.evals.judges.coverage import coverage
from prefzoo.evals.judges.protocol import Answer, Comparison, Judge, PromptRow
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.held_out import on_pairs
from prefzoo.evals.metrics.measure import Measured, measured
from prefzoo.evals.metrics.registry import Metric, all_metrics
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.plug_ins import is_plug_in
from prefzoo.experiment.work_names import judging
from prefzoo.runtime.plugins import RAISED, describe_error
from prefzoo.training.loss_call import call_on_made_up_pairs
from prefzoo.types import LogProbs, VocabLogProbs

ANSWERS = ("A short answer.", "Another answer, which is a little longer than the first one.")
PROMPTS = (PromptRow("1", "Name a river."), PromptRow("2", "What is a lake?"))


@dataclass
class Calls:
    """The results of the calls.

    Attributes:
        failing: place in the recipe -> why the plug-in there fails.
        warnings: a line for each plug-in that works but returns odd values.
    """

    failing: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def call_plug_ins(experiment: Experiment, judge: Judge | None) -> Calls:
    """Call the losses with gradients, the judge if it is the user's own, and the metrics of installed packages.

    A schema needs no call: it has just read the data. A server is not asked.

    Args:
        experiment: read and loaded.
        judge: its judge; None in a process that does not judge.
    """
    calls = Calls()
    _call_losses(experiment, calls)
    if judge is not None and experiment.recipe.evals.prompts:
        reason = _failing_judge(experiment, judge)
        calls.failing |= {"evals.judge": reason} if reason else {}
    for metric in all_metrics():
        reason = _failing_metric(metric) if _is_plug_in(metric) else ""
        calls.failing |= {f"metric {metric.name}": reason} if reason else {}
    return calls


def _call_losses(experiment: Experiment, calls: Calls) -> None:
    for trial in experiment.trials.values():
        variant, place = trial.variant, f"variants.{trial.arm}"
        if place in calls.failing:
            continue
        try:
            value = call_on_made_up_pairs(variant.loss_obj, variant.params, variant.train.batch)
        except VariantFailed as e:
            calls.failing[place] = "; ".join(e.lines)
            continue
        if not math.isfinite(value):
            line = f"{place}: the loss of two made-up pairs is {value}; look at its knobs"
            calls.warnings += [] if line in calls.warnings else [line]


def _failing_judge(experiment: Experiment, judge: Judge) -> str:
    """Return why a user's judge gives no verdict on made-up answers; empty if it gives one, or is prefzoo's."""
    if not is_plug_in(judge):
        return ""
    first, second = (Answer(text, True, len(text.split())) for text in ANSWERS)
    comparisons = [Comparison(row, first, second) for row in experiment.prompts[: len(PROMPTS)]]
    start = monotonic()
    try:
        verdicts = judge.compare(comparisons)
    except UserError as e:
        return "; ".join(e.lines)
    except RAISED as e:
        return describe_error(e)
    experiment.rates.record(judging(judge), monotonic() - start, len(comparisons), "trial")
    cover = coverage(verdicts)
    return cover.reasons[0][0] if cover.missing == cover.asked else ""


def _is_plug_in(metric: Metric) -> bool:
    functions = (metric.rows, metric.estimator, metric.pooled, metric.from_logprobs)
    return any(f is not None and not str(f.__module__).startswith("prefzoo.") for f in functions)


def _failing_metric(metric: Metric) -> str:
    try:
        base, model = _made_up_models(metric)
        if model.failed:
            return model.failed[metric.name]
        if metric.pooled is not None:
            metric.pooled({"base": base, "model": model}, "base")
        metric.estimate(model, base)
        metric.estimate(base, None)
    except RAISED as e:
        return describe_error(e)
    return ""


def _made_up_models(metric: Metric) -> tuple[Measured, Measured]:
    lengths = torch.tensor([3, 2])
    tokens = torch.full((2, 3), -1.5) * (torch.arange(3) < lengths[:, None])
    chosen, rejected = tokens.sum(1), 1.25 * tokens.sum(1)
    each = (tokens, 1.25 * tokens, -tokens, -tokens, tokens, tokens)
    policy = VocabLogProbs(chosen, rejected, lengths, lengths, *each)
    reference = LogProbs(1.1 * chosen, 1.1 * rejected, lengths, lengths)
    held_out = on_pairs(policy, reference, 0.1, [metric])
    answers = [Answer(text, True, len(text.split())) for text in ANSWERS]
    model = measured(held_out, PROMPTS, answers, Verifier(), {}, [0.5, 0.25])
    base = measured(type(held_out)(), PROMPTS, answers[::-1], Verifier(), {})
    return base, model
