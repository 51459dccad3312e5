"""How long a unit of work takes on this machine: what earlier runs and short measurements took, in the user's cache.

Where the CPU computes, times are those of a machine without other processes; what these add is `crowding`'s.
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
ORIGINS: tuple[Origin, ...] = ("run", "trial")  # what a run took counts more than a short measurement


class Rates:
    """Seconds per unit of work, by the work's name. The newest record counts."""

    def __init__(self, model: str, threads: int | None = None) -> None:
        """Open the records of a model on this machine.

        Args:
            model: What identifies its weights.
            threads: How many threads torch computes with; torch is asked if None.
        """
        self._model, self._threads = model, threads
        self._opened: Cache | None = None

    @property
    def _cache(self) -> Cache:
        if self._opened is None:
            self._opened = cache_of("rates", "rates", self._model, _machine(self._threads), sync=False)
        return self._opened

    def get(self, work: str) -> tuple[float, Origin] | None:
        """Return the seconds that a unit of work takes, and where that is known from; None if it is not known."""
        for origin in ORIGINS:
            seconds = self._cache.get(f"{origin} {work}")
            if isinstance(seconds, int | float):
                return float(seconds), origin
        return None

    def record(self, work: str, seconds: float, units: float, origin: Origin = "run") -> None:
        """Store how long a number of units of a work took; nothing without units.

        Args:
            work: The work's name.
            seconds: What all of them took.
            units: How many.
            origin: Whether a run or a short measurement took them.
        """
        if units > 0:
            with suppress(OSError):  # a full disk: an estimate is not worth a run
                self._cache.put({f"{origin} {work}": seconds / units})

    @contextmanager
    def timed(self, work: str, units: float) -> Iterator[None]:
        """Record how long the block takes, unless it raises.

        Args:
            work: The work's name.
            units: How many units of it the block does.

        Returns:
            A context manager without a value.
        """
        start = thread_clock()
        yield
        self.record(work, thread_clock() - start, units)


def thread_clock() -> float:
    """Return the seconds that this thread has computed, which other processes on the same cores do not lengthen.

    On a machine with a GPU, which computes while the thread waits, the time that has passed.
    """
    return monotonic() if has_gpu() else thread_time()


def _machine(threads: int | None) -> list[Any]:
    gpu = torch.cuda.get_device_name() if has_gpu() else None
    return [cpu_name(), os.cpu_count(), torch.get_num_threads() if threads is None else threads, gpu]
