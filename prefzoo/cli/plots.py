"""`prefzoo losses --plot`."""

from __future__ import annotations

from pathlib import Path

import click

from prefzoo import losses
from prefzoo.errors import UserError
from prefzoo.evals.report.loss_plots import draw


def show(name: str | None, folder: Path) -> None:
    """Draw one loss, or all of them, and print where.

    Raises:
        UserError: the name is that of a sum of losses.
    """
    one = None if name is None else losses.get(name)
    if isinstance(one, losses.Sum):
        raise UserError(f"--plot draws single losses, and {one.name!r} is a sum; name one of its terms")
    written = draw(list(losses.all_losses()) if one is None else [one], folder)
    click.echo(f"{len(written)} pictures in {folder}")
