"""Which of several ways to compute the same is the fastest here: measured, not assumed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from prefzoo.runtime import atomic_files
from prefzoo.runtime.paths import cache_dir

Way = Callable[[int], Sequence[Tensor]]
WARM, ROUNDS = 3, 5


class Choices:
    """The fastest way for each kind of work, measured once for a device and a version of torch, and kept on disk.

    So a training that goes on in another process computes as it began, to the last bit.
    """

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def of(self, work: str, ways: Mapping[str, Way], device: torch.device, *, rough: bool) -> str:
        """The name among `ways`; see `fastest`."""
        if work not in self.known:
            file = _file(device)
            name = _kept(file).get(work, "")
            if name not in ways:
                found = fastest(ways, device, rough=rough)
                kept = _kept(file)  # again: another process may have been first
                name = kept[work] if kept.get(work) in ways else found
                with atomic_files.write_atomically(file) as partial:
                    partial.write_text(json.dumps(kept | {work: name}, indent=1), encoding="utf-8")
            self.known[work] = name
        return self.known[work]


CHOICES = Choices()


def _file(device: torch.device) -> Path:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return cache_dir("kernels") / f"{re.sub('[^A-Za-z0-9.]+', '-', f'{name} torch {torch.__version__}')}.json"


def _kept(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent or broken: measured anew
        return {}
    return found if isinstance(found, dict) else {}


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
