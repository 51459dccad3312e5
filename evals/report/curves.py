"""Chart training curves with as many points as a screen can show, and describe likelihood displacement in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

import numpy as np
import pandas as pd

from prefzoo import losses
from prefzoo.evals.boards.run_files import RunFiles, VariantFiles
from prefzoo.evals.metrics.builtin.chosen_answers import CHOSEN_DISPLACEMENT
from prefzoo.evals.report.canvas import Chart
from prefzoo.evals.report.charts import Line, line_chart

MARGINS, FREE = "margins", "margins of means"  # rewards/margins divided by the loss's beta
POINTS = 120  # most points of a line, each a mean of neighbouring steps
QUARTER = 4
STANDARD_ERRORS = 2.0  # by which a change must exceed the noise between steps
CURVES = (
    ("loss", "Loss", "Relative to its value at the first step, as losses have different units."),
    (MARGINS, "Margin", "Chosen minus rejected log-ratio to the reference, in nats, without the loss's beta."),
    (FREE, "Margin without a reference", "Chosen minus rejected mean log-prob of a token, in nats, without beta."),
    ("rewards/accuracies", "Accuracy", "Share of the step's pairs whose chosen answer has the higher reward."),
    ("logps/chosen", "Log-prob of chosen answers", "Mean over the step's answers, in nats."),
    ("logps/rejected", "Log-prob of rejected answers", "Mean over the step's answers, in nats."),
    ("grad_norm", "Gradient norm", "Before clipping, on a logarithmic axis."),
)


@dataclass(frozen=True)
class Curve:
    """A chart with its heading, and a note on how to read it."""

    title: str
    note: str
    chart: Chart


def curves(run: RunFiles, series: Mapping[str, int]) -> list[Curve]:
    """Chart every number that at least one variant logged.

    Args:
        run: the run's files.
        series: the number of each variant's look (see `style.look`), best first.

    Returns:
        The charts, in the order of `CURVES`.
    """
    drawn = []
    for column, title, note in CURVES:
        own = {name: i for name, i in series.items() if name in run.variants}
        lines = [_line(run.variants[name], column, i) for name, i in own.items()]
        chart = line_chart(
            [k for k in lines if k], title, percent=column == "rewards/accuracies", log=column == "grad_norm"
        )
        if chart is not None:
            drawn.append(Curve(title, note, chart))
    return drawn


def _line(variant: VariantFiles, column: str, series: int) -> Line | None:
    steps = variant.steps
    if column in (MARGINS, FREE) and "rewards/margins" in steps:
        steps = steps.assign(**{_kind_of_margin(variant): steps["rewards/margins"] / _beta(variant)})
    if column not in steps or "step" not in steps:
        return None
    at = _thin(pd.to_numeric(steps["step"], errors="coerce"))
    values = pd.to_numeric(steps[column], errors="coerce")
    if column == "loss" and values.iloc[0]:
        values = values / abs(values.iloc[0])
    return Line(variant.name, at, _thin(values), series)


def _kind_of_margin(variant: VariantFiles) -> str:
    """Return which kind of margin a variant logged: `MARGINS` with a reference model, `FREE` without one.

    A registered loss declares it. For a loss in a file, a margin of zero at the first step means that it has a
    reference.
    """
    name = variant.result.loss if variant.result is not None else variant.name
    if name in losses.names():  # a loss in a user's file is not imported for a chart
        return MARGINS if losses.get(name).needs_reference else FREE
    return MARGINS if variant.steps["rewards/margins"].iloc[0] == 0 else FREE


def _beta(variant: VariantFiles) -> float:
    """Return the beta by which the loss scaled its rewards; for a sum of losses, that of the first term with a beta."""
    params = variant.result.params if variant.result is not None else {}
    betas = [own.get("beta") for own in (params, *params.values()) if isinstance(own, dict)]
    return next((float(b) for b in betas if b), 1.0)


def _thin(values: pd.Series) -> list[float]:
    """Return at most `POINTS` means of neighbouring values; NaN where no value is finite."""
    parts = np.array_split(values.to_numpy(dtype=float), min(POINTS, len(values)))
    return [float(p[np.isfinite(p)].mean()) if np.isfinite(p).any() else nan for p in parts]


def displaced(variant: VariantFiles, held_out: float | None) -> str | None:
    """Describe a drop of the chosen answers' log-probs (likelihood displacement).

    Without held-out pairs the training log decides. If rewards start at zero, it compares the policy with the reference
    over the last quarter of the steps; otherwise it compares the last quarter with the first.

    Args:
        variant: a trained variant.
        held_out: mean change of the log-probs on held-out pairs, in nats per token; None if it was not measured.

    Returns:
        The drop in words; empty if there is none, None if it cannot be known.
    """
    if held_out is not None:
        lost = f"{CHOSEN_DISPLACEMENT.text(abs(held_out))} {CHOSEN_DISPLACEMENT.unit}"
        return f"{lost} less on held-out pairs than under the base" if held_out < 0 else ""
    steps = variant.steps
    if len(steps) < QUARTER or "logps/chosen" not in steps or "rewards/chosen" not in steps:
        return None
    rewards, logps = (steps[c].to_numpy(dtype=float) for c in ("rewards/chosen", "logps/chosen"))
    part = len(steps) // QUARTER
    if rewards[0] == 0:  # the policy was the reference at the first step
        fell = bool(rewards[-part:].mean() < 0)
        return "less than under the reference, over the last quarter of the training" if fell else ""
    first, last = logps[:part], logps[-part:]
    noise = np.sqrt(first.var() / part + last.var() / part)
    fell = bool(first.mean() - last.mean() > STANDARD_ERRORS * noise) and part > 1
    lost = first.mean() - last.mean()
    return f"{lost:.0f} nats less in the last quarter of the steps than in the first, on other pairs" if fell else ""
