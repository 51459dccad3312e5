"""Plot the slope of two losses against the log-ratio margin, with each modifier and without it.

All margins of a picture are pairs of one step, since some modifiers weight the pairs of a step against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from matplotlib.figure import Figure

from prefzoo import losses
from prefzoo.errors import UserError
from prefzoo.evals.report.canvas import save_figure, styled
from prefzoo.evals.report.loss_plots import BLUE, DPI, GREY, POINTS, SETTINGS, SPAN, values_at
from prefzoo.losses import Loss, Modified, Modifier

ON = ("dpo", "simpo", "kto")  # each modifier is drawn on the first two of these that it fits


@dataclass(frozen=True)
class ModifiedSlopes:
    """Slopes of a loss with and without a modifier, as functions of the margin h.

    Attributes:
        loss: the name of the loss.
        margins: `POINTS` values of h in nats, from `-SPAN` to `SPAN`, one for each pair of the step.
        plain, modified: derivative of the sum of the step's values by each pair's h, without and with the modifier.
    """

    loss: str
    margins: list[float]
    plain: list[float]
    modified: list[float]


def modified_slopes(modifier: Modifier, loss: Loss) -> ModifiedSlopes:
    """Return the slopes of a loss with a modifier and without it, both with their default parameters.

    Args:
        modifier: the modifier.
        loss: the loss.

    Returns:
        The slopes at each margin.

    Raises:
        UserError: the modifier does not fit the loss.
    """
    changed = losses.modify(loss, [modifier.name])
    margins = torch.linspace(-SPAN, SPAN, POINTS, dtype=torch.float64)
    return ModifiedSlopes(loss.name, margins.tolist(), _slopes(loss, margins), _slopes(changed, margins))


def draw_modifiers(drawn: Sequence[Modifier], folder: Path) -> list[Path]:
    """Write `NAME.svg` for every modifier.

    Args:
        drawn: the modifiers.
        folder: the folder of the pictures.

    Returns:
        The paths of the files. A modifier that fits none of the losses has no picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {one.name: list(islice(_fitting(one), 2)) for one in drawn}
    with styled(SETTINGS):
        return [
            save_figure(_figure(name, slopes), folder / name, ("svg",), DPI)[0]
            for name, slopes in pictures.items()
            if slopes
        ]


def _fitting(modifier: Modifier) -> Iterator[ModifiedSlopes]:
    for name in ON:
        loss = losses.get(name)
        assert isinstance(loss, Loss)
        with suppress(UserError):
            yield modified_slopes(modifier, loss)


def _slopes(loss: Loss | Modified, margins: torch.Tensor) -> list[float]:
    leaf = margins.clone().requires_grad_()
    slopes: list[float] = torch.autograd.grad(values_at(loss, leaf).sum(), leaf)[0].tolist()
    return slopes


def _figure(name: str, drawn: Sequence[ModifiedSlopes]) -> Figure:
    figure = Figure(figsize=(6, 2.4), layout="constrained")
    for axes, slopes in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        axes.plot(slopes.margins, slopes.plain, color=GREY, linestyle="--", label=slopes.loss)
        axes.plot(slopes.margins, slopes.modified, color=BLUE, label=f"with {name}")
        axes.set(xlabel="margin h (nats)", ylabel="slope")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure
