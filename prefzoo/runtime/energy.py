"""Measure the energy of a block of code by the counters of GPUs (NVML) and processors (RAPL), read by Zeus.

Zeus is an extra (`pip install prefzoo[energy]`). Without it, or without counters, no energy is reported.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from prefzoo.runtime.distributed import all_gather, process_state
from prefzoo.runtime.plugins import RAISED

WINDOW = "prefzoo"


@dataclass
class Power:
    """Mean power of a block of code, set when the block ends.

    Attributes:
        watts: Joules per second, summed over all nodes; None if no counter could be read.
    """

    watts: float | None = None

    def joules(self, seconds: float) -> dict[str, float]:
        """Return the energy of some seconds at this power as a cost `joules`; empty if the power is unknown."""
        return {} if self.watts is None else {"joules": self.watts * seconds}


@contextmanager
def measured_power() -> Iterator[Power]:
    """Measure the mean power of the block; all processes must call this, and the first of each node reads its counters.

    Returns:
        A context manager whose value gets the power when the block ends, unless the block raises.
    """
    power = Power()
    state = process_state()
    monitor = _monitor() if state.local_process_index == 0 else None
    started = monitor is not None and _begin(monitor)
    start = time.monotonic()
    yield power
    seconds = time.monotonic() - start
    own = _joules(monitor) if started else None
    known = [joules for joules in all_gather(own) if joules is not None]
    power.watts = sum(known) / seconds if known and seconds > 0 else None


def _monitor() -> Any:
    if find_spec("zeus") is None:
        return None
    try:
        with _quiet():
            from zeus.monitor import ZeusMonitor

            return ZeusMonitor()
    except RAISED:  # a driver may raise anything; a missing number must not end a run
        return None


def _begin(monitor: Any) -> bool:
    try:
        with _quiet():
            monitor.begin_window(WINDOW)
    except RAISED:
        return False
    return True


def _joules(monitor: Any) -> float | None:
    """Return the energy that this node's counters measured in joules; None if there is none."""
    try:
        with _quiet():
            window = monitor.end_window(WINDOW)
    except RAISED:
        return None
    parts = [part for part in (window.gpu_energy, window.cpu_energy, window.dram_energy) if part]
    total = float(sum(sum(part.values()) for part in parts))
    return total if total > 0 else None


@contextmanager
def _quiet() -> Iterator[None]:
    log = logging.getLogger("zeus")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
