"""`prefzoo report`: a run as one page, and its pictures for papers."""

from __future__ import annotations

from pathlib import Path

import click

from prefzoo.evals.boards.run_files import read_run
from prefzoo.experiment.stages.report import write_report


def show_report(folder: Path, out: Path | None, plots: Path | None) -> None:
    """Write the page of a run's folder, and pictures to `plots`; say where."""
    click.echo(f"{write_report(folder, out)}")
    if plots is not None:
        from prefzoo.evals.report.figures import draw

        written = draw(read_run(folder), plots)
        click.echo(f"{len(written)} pictures in {plots}")
