"""SIGTERM and Ctrl-C in the middle of a training: the step is finished, a checkpoint is written, then the run ends."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = "stopped; what is finished is kept, the same command goes on"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
REPEAT_SECONDS = 1.0  # seconds


class Interrupted(BaseException):
    """A run that was asked to stop. The command line says `line` and exits with 128 + the signal's number.

    As KeyboardInterrupt, it is nothing that a library's `except Exception` may swallow.
    """

    def __init__(self, signum: int, line: str) -> None:
        self.signum, self.line = signum, line
        super().__init__(line)


class StopRequest:
    """`signum` is the first signal that came, 0 as long as none did. At a second Ctrl-C, the run ends where it stands.

    Schedulers and launchers send SIGTERM to a process and to its parent, which passes it on; terminals do so with
    Ctrl-C. What comes twice at once, and any further SIGTERM, is therefore the same wish again.
    """

    signum, came = 0, 0.0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.signum and time.monotonic() - self.came > REPEAT_SECONDS:
            raise Interrupted(
                signum, "stopped in the middle of a step; the same command goes on from the last checkpoint"
            )
        if not self.signum:
            self.signum, self.came = signum, time.monotonic()


@contextmanager
def defer_signals(wanted: bool) -> Iterator[StopRequest]:
    """While it lasts, signals are noted in what it yields, not obeyed. Python has them in the main thread alone."""
    stop = StopRequest()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {signum: signal.signal(signum, stop) for signum in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def interrupt_now(signum: int, frame: FrameType | None) -> None:
    """For all of a run but its training steps: what is finished is on disk, so stop at once."""
    signal.signal(signum, signal.SIG_IGN)  # a second one must not disturb the end
    raise Interrupted(signum, STOPPED)
