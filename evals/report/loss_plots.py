"""Plot value and slope of each loss against the log-ratio margin, next to DPO, and all losses in one picture.

The plots vary the margin h of one pair. The reference gives -20 nats to a chosen answer of 10 tokens, and -30 nats to a
rejected one of 14. The policy gives h/2 more to the first and h/2 less to the second. Every point is a batch of one
pair at the first step, so the plots do not show how a loss depends on other rows or on earlier steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from prefzoo import losses
from prefzoo.evals.report.canvas import save_figure, styled
from prefzoo.losses import AnyLoss, Loss
from prefzoo.training.loss_inputs import Inputs
from prefzoo.types import Mismatched, RankedScores, TokenKL, VocabLogProbs

SPAN, POINTS = 30.0, 61
CHOSEN, REJECTED = (-20.0, 10), (-30.0, 14)  # the reference's log-prob in nats, and the number of tokens
BLUE, GREY = "#0072b2", "#888888"  # safe for colour-blind readers; the grey line is dashed, too
SETTINGS = {"font.size": 8, "axes.grid": True}
COLUMNS = 7  # in the picture of all losses
DPI = 80


@dataclass(frozen=True)
class LossCurve:
    """A loss as a function of the margin h.

    Attributes:
        margins: `POINTS` values of h in nats, from `-SPAN` to `SPAN`.
        values: the loss minus its value at h = 0.
        slopes: its slopes dL/dh.
    """

    margins: list[float]
    values: list[float]
    slopes: list[float]


def loss_curve(loss: Loss) -> LossCurve:
    """Return value and slope of a loss for each margin, with its default parameters.

    An unpaired loss is the mean over both answers. Other inputs are constant: KLs of 1 nat, scores of 1 and 0, and
    mismatched pairs with a log-ratio of 0.
    """
    margins = torch.linspace(-SPAN, SPAN, POINTS, dtype=torch.float64)
    values, slopes = [], []
    for h in margins:
        leaf = h[None].clone().requires_grad_()
        value = values_at(loss, leaf).mean()
        (slope,) = torch.autograd.grad(value, leaf, materialize_grads=True)
        values.append(float(value.detach()))
        slopes.append(slope.item())
    middle = values[POINTS // 2]
    return LossCurve(margins.tolist(), [v - middle for v in values], slopes)


def draw(drawn: Sequence[Loss], folder: Path) -> list[Path]:
    """Write `NAME.svg` for every loss and `zoo.png` with all of them.

    Args:
        drawn: the losses.
        folder: the folder of the pictures.

    Returns:
        The paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curves = {loss.name: loss_curve(loss) for loss in drawn}
    dpo = loss_curve(losses.get("dpo"))  # type: ignore[arg-type]  # a single loss
    with styled(SETTINGS):
        written = [
            save_figure(_one(name, curve, dpo), folder / name, ("svg",), DPI)[0] for name, curve in curves.items()
        ]
        return [*written, *save_figure(_zoo(curves, dpo), folder / "zoo", ("png",), DPI)]


def values_at(loss: AnyLoss, h: Tensor) -> Tensor:
    """Return a loss's values for the pairs of one step, with its default parameters.

    Args:
        loss: the loss.
        h: (B,) margin of each pair, in nats.

    Returns:
        (B,) values; (2B,) for a loss of single answers.
    """
    policy = _pairs(CHOSEN[0] + h / 2, REJECTED[0] - h / 2)
    reference = _pairs(torch.full_like(h, CHOSEN[0]), torch.full_like(h, REJECTED[0]))
    one, zero = torch.ones_like(h), torch.zeros_like(h)
    inputs = Inputs(
        policy, reference if loss.needs_reference else None, RankedScores(one, zero, one, zero), TokenKL(one, one),
        Mismatched(zero, zero),
    )  # fmt: skip
    return inputs.call(loss, loss.Params())[0]


def _pairs(chosen: Tensor, rejected: Tensor) -> VocabLogProbs:
    """Spread the log-probs of both answers, (B,) each in nats, evenly over their tokens."""
    lengths = [torch.full((len(chosen),), n) for _, n in (CHOSEN, REJECTED)]
    width = max(CHOSEN[1], REJECTED[1])
    inside = [(torch.arange(width) < n).to(chosen.dtype).expand(len(chosen), width) for _, n in (CHOSEN, REJECTED)]
    tokens = [
        value[:, None] / n * mask
        for value, (_, n), mask in zip((chosen, rejected), (CHOSEN, REJECTED), inside, strict=True)
    ]
    sums = [t.sum(1) for t in tokens]
    return VocabLogProbs(*sums, *lengths, *tokens, *(2.0 * m for m in inside), *(-1.0 * m for m in inside))


def _one(name: str, curve: LossCurve, dpo: LossCurve) -> Figure:
    figure = Figure(figsize=(6, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot(left, name, curve.margins, curve.values, dpo.values)
    _plot(right, name, curve.margins, curve.slopes, dpo.slopes)
    left.set(xlabel="margin h (nats)", ylabel="value, less that at 0")
    right.set(xlabel="margin h (nats)", ylabel="slope")
    left.legend(frameon=False)
    return figure


def _zoo(curves: Mapping[str, LossCurve], dpo: LossCurve) -> Figure:
    rows = -(-len(curves) // COLUMNS)
    figure = Figure(figsize=(1.9 * COLUMNS, 1.6 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True)
    for axes in grid.flat[len(curves) :]:
        axes.axis("off")
    for axes, (name, curve) in zip(grid.flat, curves.items(), strict=False):
        _plot(axes, name, curve.margins, curve.slopes, dpo.slopes)
        axes.set_title(name, fontsize=8)
    figure.suptitle(
        "slope of every loss against the margin h, at its default knobs; dashed: dpo, scaled to the same height"
    )
    return figure


def _plot(axes: Axes, name: str, margins: list[float], own: list[float], dpo: list[float]) -> None:
    """Plot a loss, and DPO scaled to its height, to compare shapes: betas differ by factors of hundreds."""
    height, wanted = (max(map(abs, values)) or 1.0 for values in (dpo, own))
    axes.plot(margins, own, color=BLUE, label=name)
    axes.plot(margins, [v * wanted / height for v in dpo], color=GREY, linestyle="--", label="dpo, scaled")
