"""Record how long a unit of work takes on this machine, from earlier runs and short measurements, in the user's cache.

Times of CPUs do not include waiting for other processes on the same cores; an estimate adds that as its `crowding`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, thread_time
from typing import Any, Literal

from prefzoo.runtime.cache import Cache, cache_of
from prefzoo.runtime.devices import has_gpu
from prefzoo.runtime.lazy_torch import torch
from prefzoo.runtime.run_folders import cpu_name

Origin = Literal["run", "trial"]
ORIGINS: tuple[Origin, ...] = ("run", "trial")  # a run's record is preferred to that of a short measurement


class Rates:
    """Seconds per unit of work, by the work's name; a new record replaces the one before."""

    def __init__(self, model: str, threads: int | None = None) -> None:
        """Open the records of a model on this machine.

        Args:
            model: Text that identifies the model's weights.
            threads: Number of threads that torch computes with; None for its present number.
        """
        self._model, self._threads = model, threads
        self._opened: Cache | None = None

    @property
    def _cache(self) -> Cache:
        if self._opened is None:
            self._opened = cache_of("rates", "rates", self._model, _machine(self._threads), sync=False)
        return self._opened

    def get(self, work: str) -> tuple[float, Origin] | None:
        """Return the seconds that a unit of work takes, and the origin of the record; None without a record."""
        for origin in ORIGINS:
            seconds = self._cache.get(f"{origin} {work}")
            if isinstance(seconds, int | float):
                return float(seconds), origin
        return None

    def record(self, work: str, seconds: float, units: float, origin: Origin = "run") -> None:
        """Record the time of some units of work; do nothing if `units` is 0.

        Args:
            work: The work's name.
            seconds: Time of all units together.
            units: Number of units.
            origin: Whether the time is from a run or a short measurement.
        """
        if units > 0:
            with suppress(OSError):  # a full disk must not end a run for an estimate
                self._cache.put({f"{origin} {work}": seconds / units})

    @contextmanager
    def timed(self, work: str, units: float) -> Iterator[None]:
        """Record how long the block takes, unless it raises.

        Args:
            work: The work's name.
            units: Number of units that the block does.

        Returns:
            A context manager without a value.
        """
        start = thread_clock()
        yield
        self.record(work, thread_clock() - start, units)


def thread_clock() -> float:
    """Return the CPU seconds of this thread, which do not grow while other processes use the same cores.

    On a machine with a GPU, return seconds of wall time instead, because the GPU computes while the thread waits.
    """
    return monotonic() if has_gpu() else thread_time()


def _machine(threads: int | None) -> list[Any]:
    gpu = torch.cuda.get_device_name() if has_gpu() else None
    return [cpu_name(), os.cpu_count(), torch.get_num_threads() if threads is None else threads, gpu]
