"""Handle SIGTERM and Ctrl-C: a training finishes its step and writes a checkpoint, then the run ends."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = "stopped; finished results are saved; run the same command to resume"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
REPEAT_SECONDS = 1.0  # signals within this time after the first are copies of it


class Interrupted(BaseException):
    """A request to stop the run. The command line prints `line` and exits with 128 plus the signal's number.

    Like KeyboardInterrupt, it is not an `Exception`, so that a library's `except Exception` cannot swallow it.
    """

    def __init__(self, signum: int, line: str) -> None:
        self.signum, self.line = signum, line
        super().__init__(line)


class StopRequest:
    """A signal handler that records the first signal in `signum` (0 before it), and raises at a later Ctrl-C.

    Schedulers and launchers send SIGTERM to a process and to its parent, which forwards it; terminals do the same with
    Ctrl-C. Signals that arrive together, and all later SIGTERMs, therefore count as one request.
    """

    signum, came = 0, 0.0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.signum and time.monotonic() - self.came > REPEAT_SECONDS:
            raise Interrupted(
                signum, "stopped in the middle of a step; run the same command to resume from the last checkpoint"
            )
        if not self.signum:
            self.signum, self.came = signum, time.monotonic()


@contextmanager
def defer_signals(enabled: bool) -> Iterator[StopRequest]:
    """Record signals while the block runs instead of stopping; yield the record.

    Python delivers signals only to the main thread: in other threads, or if not `enabled`, the record stays empty.
    """
    stop = StopRequest()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {signum: signal.signal(signum, stop) for signum in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def interrupt_now(signum: int, frame: FrameType | None) -> None:
    """Stop the run at once: the signal handler outside training steps, where all results are on disk."""
    signal.signal(signum, signal.SIG_IGN)  # a second signal must not disturb the shutdown
    raise Interrupted(signum, STOPPED)
