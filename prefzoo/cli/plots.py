"""Pictures of the losses: value and slope against the log-ratio margin, each beside DPO's, and the zoo on one page.

One pair is swept: the reference gives -20 nats to a chosen answer of 10 tokens and -30 nats to a rejected one of 14;
the policy differs from it by +h/2 on the first and -h/2 on the second. Every point is a batch of its own at the first
step: what a loss does with other rows, or with earlier steps, is not in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from prefzoo import losses
from prefzoo.errors import UserError
from prefzoo.losses import Loss
from prefzoo.training.loss_inputs import Inputs
from prefzoo.types import Mismatched, Scores, TokenKL, VocabLogProbs

SPAN, POINTS = 30.0, 61
CHOSEN, REJECTED = (-20.0, 10), (-30.0, 14)  # the reference's nats, and tokens
BLUE, GREY = "#0072b2", "#888888"  # told apart by colour-blind eyes, and by dashes


def curve(found: Loss) -> tuple[list[float], list[float], list[float]]:
    """Margins h in nats, the loss's value less its value at h = 0, and its slope dL/dh, at default knobs.

    An unpaired loss is the mean over both answers. Other inputs stand still: KLs of 1 nat, scores 1 and 0, no drift.
    """
    at = torch.linspace(-SPAN, SPAN, POINTS, dtype=torch.float64)
    values, slopes = [], []
    for h in at:
        leaf = h.clone().requires_grad_()
        value = _value(found, leaf)
        (slope,) = torch.autograd.grad(value, leaf, materialize_grads=True)
        values.append(float(value.detach()))
        slopes.append(float(slope))
    middle = values[POINTS // 2]
    return at.tolist(), [v - middle for v in values], slopes


def _value(found: Loss, h: Tensor) -> Tensor:
    policy = _pair(CHOSEN[0] + h / 2, REJECTED[0] - h / 2)
    reference = _pair(h.new_tensor(CHOSEN[0]), h.new_tensor(REJECTED[0])) if found.needs_reference else None
    one, zero = h.new_ones(1), h.new_zeros(1)
    inputs = Inputs(policy, reference, Scores(one, zero), TokenKL(one, one), Mismatched(zero, zero))
    return inputs.call(found, found.Params())[0].mean()


def _pair(chosen: Tensor, rejected: Tensor) -> VocabLogProbs:
    lengths = [torch.tensor([n]) for _, n in (CHOSEN, REJECTED)]
    width = max(CHOSEN[1], REJECTED[1])
    inside = [(torch.arange(width) < n).to(chosen.dtype)[None] for _, n in (CHOSEN, REJECTED)]
    tokens = [
        value / n * mask for value, (_, n), mask in zip((chosen, rejected), (CHOSEN, REJECTED), inside, strict=True)
    ]
    sums = [t.sum(1) for t in tokens]
    return VocabLogProbs(*sums, *lengths, *tokens, *(2.0 * m for m in inside), *(-1.0 * m for m in inside))


def draw(found: Sequence[Loss], folder: Path) -> list[Path]:
    """`NAME.svg` for every loss, and `zoo.png` with all of them."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "prefzoo", "font.size": 8, "axes.grid": True})
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    curves = {loss.name: curve(loss) for loss in found}
    dpo = curve(losses.get("dpo"))  # type: ignore[arg-type]  # a single loss
    written = []
    for name, mine in curves.items():
        figure, axes = plt.subplots(1, 2, figsize=(6, 2.4), layout="constrained")
        for axis, which, label in ((axes[0], 1, "value, less that at 0"), (axes[1], 2, "slope")):
            _draw(axis, mine, dpo, which, name)
            axis.set(xlabel="margin h (nats)", ylabel=label)
        axes[0].legend(frameon=False)
        written.append(folder / f"{name}.svg")
        figure.savefig(written[-1], metadata={"Date": None})
        plt.close(figure)
    columns = 7
    rows = -(-len(curves) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(1.9 * columns, 1.6 * rows), layout="constrained", squeeze=False, sharex=True
    )
    for axis in grid.flat[len(curves) :]:
        axis.axis("off")
    for axis, (name, mine) in zip(grid.flat, curves.items(), strict=False):
        _draw(axis, mine, dpo, 2, name)
        axis.set_title(name, fontsize=8)
    figure.suptitle(
        "slope of every loss against the margin h, at its default knobs; dashed: dpo, scaled to the same height"
    )
    written.append(folder / "zoo.png")
    figure.savefig(written[-1], dpi=80)
    plt.close(figure)
    return written


def show(name: str | None, folder: Path) -> None:
    """Draw one loss, or all of them, and say where."""
    one = None if name is None else losses.get(name)
    if isinstance(one, losses.Sum):
        raise UserError(f"--plot draws single losses, and {one.name!r} is a sum; name one of its terms")
    written = draw(list(losses.all_losses()) if one is None else [one], folder)
    click.echo(f"{len(written)} pictures in {folder}")


def _draw(axis: Any, mine: tuple[list[float], ...], dpo: tuple[list[float], ...], which: int, name: str) -> None:
    """DPO's curve is scaled to the same height: betas differ by factors of hundreds, and shapes are compared."""
    height, own = (max(abs(v) for v in c[which]) or 1.0 for c in (dpo, mine))
    axis.plot(mine[0], mine[which], color=BLUE, label=name)
    axis.plot(dpo[0], [v * own / height for v in dpo[which]], color=GREY, linestyle="--", label="dpo, scaled")
