"""Which of several ways to compute the same is the fastest on this machine: measured, not assumed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from prefzoo.runtime.cache import Cache
from prefzoo.runtime.paths import cache_dir

Way = Callable[[int], Sequence[Tensor]]
WARM, ROUNDS = 3, 5


class Choices:
    """The fastest way for each kind of work, measured once per device and version of torch, and cached.

    A training that goes on in another process then computes as it began, to the last bit.
    """

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def of(self, work: str, ways: Mapping[str, Way], device: torch.device, *, rough: bool) -> str:
        """Return the name of the fastest way.

        Args:
            work: what is computed.
            ways: as for `fastest`.
            device: where it is computed.
            rough: whether the numbers are of half precision.

        Returns:
            A key of `ways`.
        """
        if work not in self.known:
            cache = _cache(device)
            name = cache.get(work)
            if name not in ways:
                measured = fastest(ways, device, rough=rough)
                name = cache.get(work)  # again: another process may have been first
                if name not in ways:
                    name = measured
                    cache.put({work: name})
            self.known[work] = name
        return self.known[work]


CHOICES = Choices()


def _cache(device: torch.device) -> Cache:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    file = re.sub("[^A-Za-z0-9.]+", "-", f"{name} torch {torch.__version__}")
    return Cache(cache_dir("kernels") / f"{file}.jsonl")


def fastest(ways: Mapping[str, Way], device: torch.device, *, rough: bool) -> str:
    """Return the name of the fastest way, of those that compute the same numbers as the first.

    A way that fails is left out, whatever it raises; the first must not fail.

    Args:
        ways: each computes the same from scratch. It gets the number of the round, and uses other sizes in other rounds
            if sizes change in use, so that compiling anew for every size shows in its time.
        device: where it is computed.
        rough: whether the numbers are of half precision.

    Returns:
        A key of `ways`.
    """
    names = list(ways)
    expected = [t.float() for t in ways[names[0]](0)]
    seconds = {names[0]: _seconds(ways[names[0]], device)}
    for name in names[1:]:
        try:
            if _same(expected, ways[name](0), rough=rough):
                seconds[name] = _seconds(ways[name], device)
        except Exception:  # of a compiler or a driver: anything
            continue
    return min(seconds, key=lambda name: seconds[name])


def _same(expected: Sequence[Tensor], actual: Sequence[Tensor], *, rough: bool) -> bool:
    """Compare up to rounding, relative to the largest number."""
    share = 2e-2 if rough else 1e-4
    return all(
        bool((b.float() - a).abs().max() <= share * a.abs().max()) for a, b in zip(expected, actual, strict=True)
    )  # fmt: skip


def _seconds(way: Way, device: torch.device) -> float:
    for turn in range(WARM):
        way(turn)
    _wait(device)
    start = time.perf_counter()
    for turn in range(WARM, WARM + ROUNDS):
        way(turn)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
