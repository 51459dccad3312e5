"""`prefzoo report`: a run as one page, and its pictures for papers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from prefzoo.evals.boards.run_files import read_run
from prefzoo.experiment.stages.report import write_report


def show_report(folder: Path, out: Path | None, plots: Path | None) -> None:
    """Write the page of a run's folder, and pictures to `plots`; print where."""
    click.echo(f"{write_report(folder, out)}")
    if plots is not None:
        from prefzoo.evals.report.figures import draw

        written = draw(read_run(folder), plots)
        click.echo(f"{len(written)} pictures in {plots}")


def serve_report(folder: Path, port: int) -> None:
    """Show the page of a run's folder in the browser until Ctrl-C.

    Args:
        folder: The run's, which may still be going on.
        port: Where the server listens, on the loopback address; 0 for any free port.

    Raises:
        UserError: The folder is no run's, or the port is taken.
    """
    from prefzoo.evals.report.serve import LOOPBACK, server_of

    with server_of(folder, port) as server:
        click.echo(f"http://{LOOPBACK}:{server.server_port}  (follows the run; Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
