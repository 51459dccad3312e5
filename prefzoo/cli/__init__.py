"""The command line. `--help` is instant: torch and friends are imported inside the commands that need them."""

from __future__ import annotations

import os
import signal
import sys
import warnings

import click

from prefzoo import __version__
from prefzoo.cli import (
    check,
    compare,
    complete,
    data,
    doctor,
    evaluate,
    init,
    judge,
    leaderboard,
    losses,
    pairs,
    push,
    report,
    run,
    runs,
    schema,
    translate,
)
from prefzoo.cli.commands import Commands
from prefzoo.cli.errors import reported_errors
from prefzoo.runtime import memory, threads
from prefzoo.runtime.signals import interrupt_now

EXIT_CODES = """\b
Exit codes:
  0    all is well
  1    an unexpected error; the message names the file with its traceback
  2    a mistake in a recipe, an option or the data, or a folder that cannot be written
  3    a variant, the judge or a metric failed, and the rest is done; check: it would fail
  130  interrupted by Ctrl-C (143: SIGTERM); run the same command to resume
"""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="prefzoo")
def cli() -> None:
    """Which preference loss should I use for my model and my data, how sure is that, and what does it cost?"""


for _module in (
    check, compare, complete, data, doctor, evaluate, init, judge, leaderboard, losses, pairs, push, report, run, runs,
    schema, translate,
):  # fmt: skip
    cli.add_command(_module.command)
cli.add_command(doctor.footprint)


def main() -> None:
    """Run the command line; see `EXIT_CODES`."""
    memory.configure_allocator()
    threads.limit_spinning()
    before = signal.signal(signal.SIGTERM, interrupt_now)
    os.environ.setdefault("TQDM_DISABLE", "1")  # the stages show their own progress
    # peft 0.21 asks transformers 5.23 for an attribute by its old name
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
    try:
        with reported_errors():
            code = cli.main(standalone_mode=False, complete_var=complete.VARIABLE)
            if isinstance(code, int) and code:
                sys.exit(code)
    finally:
        signal.signal(signal.SIGTERM, before)
