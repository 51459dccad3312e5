"""Report errors: a mistake as one line with its cure, an unexpected error as one line and a file."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from prefzoo.errors import UserError, VariantFailed
from prefzoo.runtime.atomic_files import unwritable_reason
from prefzoo.runtime.crash import write_traceback
from prefzoo.runtime.plugins import describe_error
from prefzoo.runtime.redaction import redact
from prefzoo.runtime.signals import STOPPED, Interrupted

UNEXPECTED, MISTAKE, PARTLY_FAILED = 1, 2, 3
SIGNALLED = 128  # shells add it to the number of the signal that ended a program
DEBUG = "PREFZOO_DEBUG"  # set: an unexpected error prints its traceback


@contextmanager
def reported_errors() -> Iterator[None]:
    """Print errors that the block raises, and exit with their code; see the command line's help for the codes."""
    try:
        yield
    except UserError as e:
        _say(*e.lines)
        if e.hint:
            click.echo(f"\n{e.hint}", err=True)
        sys.exit(PARTLY_FAILED if isinstance(e, VariantFailed) else MISTAKE)
    except click.ClickException as e:
        e.show()
        sys.exit(MISTAKE)
    except BrokenPipeError:  # the reader, like `head`, has seen enough
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(SIGNALLED + signal.SIGPIPE)
    except Interrupted as e:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the end
        click.echo(e.line, err=True)
        sys.exit(SIGNALLED + e.signum)
    except (click.Abort, KeyboardInterrupt):
        click.echo(STOPPED, err=True)
        sys.exit(SIGNALLED + signal.SIGINT)
    except Exception as e:
        reason = unwritable_reason(e)
        if reason:
            _say(reason)
            sys.exit(MISTAKE)
        if os.environ.get(DEBUG):
            raise
        _say_unexpected(e)
        sys.exit(UNEXPECTED)


def _say_unexpected(error: Exception) -> None:
    file = write_traceback(error, sys.argv)
    where = f"please report it with {file}, which has the traceback" if file else f"{DEBUG}=1 shows the traceback"
    _say(f"unexpected: {describe_error(error)}; {where}; finished results are saved")


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(f"error: {redact(line)}", err=True)
