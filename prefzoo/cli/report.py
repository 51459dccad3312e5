"""`prefzoo report`: write a run as one page, and its pictures for papers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click
from click.core import ParameterSource

from prefzoo.cli.options import FILE
from prefzoo.errors import UserError


@click.command("report")
@click.argument("run", type=FILE)
@click.option("--out", type=FILE, help="The page's file; by default RUN/report.html.")
@click.option("--plots", type=FILE, metavar="FOLDER", help="Also draw every figure for papers, as SVG and PNG.")
@click.option(
    "--serve", is_flag=True, help="Show the page in the browser instead, and update it while the run goes on."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="For --serve; 0: any.")
@click.pass_context
def command(context: click.Context, run: Path, out: Path | None, plots: Path | None, serve: bool, port: int) -> None:
    """Write a run or an evaluation as one page.

    RUN is a folder that `prefzoo run` or `prefzoo eval` wrote. The page is one file that loads nothing from the
    network.
    """
    if serve and (out or plots):
        raise UserError("report: --out and --plots have no effect with --serve; write the page without it")
    if not serve and context.get_parameter_source("port") is ParameterSource.COMMANDLINE:
        raise UserError("report: --port has no effect without --serve; add --serve")
    if serve:
        _serve(run, port)
    else:
        _write(run, out, plots)


def _write(folder: Path, out: Path | None, plots: Path | None) -> None:
    """Write the page of a run's folder, and pictures to `plots`; print the paths."""
    from prefzoo.evals.boards.run_files import read_run
    from prefzoo.experiment.stages.report import write_report

    click.echo(f"{write_report(folder, out)}")
    if plots is not None:
        from prefzoo.evals.report.figures import draw

        written = draw(read_run(folder), plots)
        click.echo(f"{len(written)} pictures in {plots}")


def _serve(folder: Path, port: int) -> None:
    """Show the page of a run's folder in the browser until Ctrl-C."""
    from prefzoo.evals.report.serve import LOOPBACK, server_of

    with server_of(folder, port) as server:
        click.echo(f"http://{LOOPBACK}:{server.server_port}  (follows the run; Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
