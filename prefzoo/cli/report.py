"""`prefzoo report`: a run as one page, and its pictures for papers."""

from __future__ import annotations

from pathlib import Path

import click

from prefzoo.errors import UserError
from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.report import page


def show_report(folder: Path, out: Path | None, plots: Path | None) -> None:
    """Write the page of a run's folder, and pictures to `plots`; say where."""
    click.echo(f"{write_report(folder, out)}")
    if plots is not None:
        from prefzoo.evals.report.figures import draw

        written = draw(read_run(folder), plots)
        click.echo(f"{len(written)} pictures in {plots}")


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a run's folder, and return its path.

    Raises:
        UserError: the folder is no run's, or the page cannot be written.
    """
    found, target = read_run(folder), out or folder / page.FILE
    try:
        page.write(found, target)
    except OSError as e:
        raise UserError(f"{target}: cannot be written ({e.strerror}); name another file with --out") from None
    return target
