"""Run one function on many inputs in other processes.

A worker is a new Python process that reads its inputs from a pipe. It needs no `__main__` guard in the user's script,
inherits no threads and no GPU state, and ends when the process that started it ends for any reason.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

I = TypeVar("I")  # noqa: E741 - input
O = TypeVar("O")  # noqa: E741 - output
MOST = 8  # workers; each holds a few hundred megabytes
Process = subprocess.Popen[bytes]


def usable_cores() -> int:
    """Return how many cores this process may use; processes that train together share the cores evenly."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class Workers(Generic[I, O]):
    """Processes that run a function; they start when inputs arrive, and end with the `with` block.

    Args:
        function: The function; it, its inputs and its outputs must support pickling.
        count: Largest number of processes; with 1, the function runs in this process.
    """

    def __init__(self, function: Callable[[I], O], count: int) -> None:
        self._function = function
        self.count = min(count, MOST) if sys.executable else 1
        self._threads = ThreadPoolExecutor(self.count)  # each thread waits for a process
        self._idle: SimpleQueue[Process | None] = SimpleQueue()
        self._all: list[Process] = []
        self._closed = False
        for _ in range(self.count):
            self._idle.put(None)

    def __enter__(self) -> Self:
        """Return the workers."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End all processes; unfinished outputs are lost."""
        self._closed = True
        for process in self._all:
            process.kill()
            process.communicate()
        self._threads.shutdown(cancel_futures=True)

    def submit(self, given: I) -> Future[O]:
        """Run the function on an input.

        Args:
            given: The input.

        Returns:
            A future with the output; without other processes, it is already done.
        """
        if self.count > 1:
            return self._threads.submit(self._ask, given)
        done: Future[O] = Future()
        done.set_result(self._function(given))
        return done

    def _ask(self, given: I) -> O:
        process = self._idle.get()
        try:
            process = process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            pickle.dump(given, process.stdin)
            process.stdin.flush()
            output: O = pickle.load(process.stdout)  # noqa: S301 - from a process that this one started
        except (EOFError, OSError, pickle.PicklingError, AttributeError, TypeError):
            if self._closed:
                raise
            process = None  # the worker has died: run the input here, where its own error is raised
            return self._function(given)
        else:
            return output
        finally:
            self._idle.put(process)

    def _start(self) -> Process:
        function = pickle.dumps(self._function)
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        own = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **own}
        )
        self._all.append(process)
        assert process.stdin is not None
        process.stdin.write(function)
        return process


def serve() -> None:
    """Read a function from standard input, and run it on each input that follows until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends its workers
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # text that a library prints is not a reply
    inputs: Any = sys.stdin.buffer
    try:
        function = pickle.load(inputs)  # noqa: S301 - from the process that started this one
        while True:
            output = function(pickle.load(inputs))  # noqa: S301
            pickle.dump(output, replies)
            replies.flush()
    except (EOFError, BrokenPipeError):
        os._exit(0)
