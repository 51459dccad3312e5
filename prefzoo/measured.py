"""Which of several ways to compute the same is the fastest here: measured, not assumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Way = Callable[[int], Sequence[Tensor]]
WARM, ROUNDS = 3, 5


def fastest(ways: Mapping[str, Way], device: torch.device, *, rough: bool) -> str:
    """The way that takes least, of those that give the same numbers as the first.

    What fails is left out, whatever it raises; the first must not fail.

    Args:
        ways: each computes the same from scratch, on other sizes in other rounds if sizes change in use: so it shows if
            something is compiled anew for every size.
        rough: whether the numbers are of half precision.
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


def _same(expected: Sequence[Tensor], found: Sequence[Tensor], *, rough: bool) -> bool:
    """Up to rounding, measured on the largest number."""
    share = 2e-2 if rough else 1e-4
    return all(
        bool((b.float() - a).abs().max() <= share * a.abs().max()) for a, b in zip(expected, found, strict=True)
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
