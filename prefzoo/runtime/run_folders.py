"""The results folder: resolved recipe, versions, hardware, and one result per variant. Written whole or not at all."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefzoo.runtime import atomic_files
from prefzoo.runtime.versions import version_of
from prefzoo.version import __version__

ADAPTER = "adapter_model.safetensors"
FAILED = "failed.json"
PACKAGES = ("torch", "transformers", "accelerate", "peft", "datasets", "lm-eval", "alpaca-eval", "pandas")


@dataclass(frozen=True)
class RunResult:
    """What training one variant gave.

    Attributes:
        key: hash of everything the training depends on; a result whose key still holds is not made again.
        weights: hash of the checkpoint's files; broken ones are made again.
        metrics: of the last step, under TRL's names.
        costs: seconds, pairs and tokens per second, peak memory in bytes, trained parameters, share of the GPU's peak
            flops where that is known. Of variants trained side by side, how many; each step's seconds are shared out
            evenly among those that took it, so that they add up, and the peak of memory is all of theirs.
    """

    variant: str
    loss: str
    params: dict[str, Any]
    train: dict[str, Any]
    seed: int
    key: str
    metrics: dict[str, float]
    costs: dict[str, float]
    environment: dict[str, Any]
    weights: str = ""

    def write(self, folder: Path) -> None:
        """To `folder/result.json`."""
        write_json(folder / "result.json", asdict(self))


def read_result(folder: Path) -> RunResult | None:
    """The result in a variant's folder; None where there is none that can be read."""
    try:
        return RunResult(**json.loads((folder / "result.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@dataclass(frozen=True)
class Failure:
    """A variant that could not be trained to its end.

    Attributes:
        key: as `RunResult.key`; a failure whose key still holds is not tried again unasked.
        step: the optimiser step at which it ended, from 1.
    """

    variant: str
    loss: str
    key: str
    step: int
    reason: str

    def write(self, folder: Path) -> None:
        """To `folder/failed.json`."""
        write_json(folder / FAILED, asdict(self))


def read_failure(folder: Path) -> Failure | None:
    """The failure in a variant's folder; None where there is none that can be read."""
    try:
        return Failure(**json.loads((folder / FAILED).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def discard_result(folder: Path) -> None:
    """A variant is about to be trained: from now on its folder holds no finished result."""
    for name in ("result.json", "evals.json", FAILED):
        (folder / name).unlink(missing_ok=True)


def read_finished(folder: Path, key: str) -> RunResult | None:
    """The result of a variant that was trained with these settings, if its weights are there too."""
    found = read_result(folder)
    return found if found is not None and found.key == key and has_checkpoint(folder) else None


def has_checkpoint(folder: Path) -> bool:
    """Whether a variant's folder holds whole weights or an adapter that can be loaded."""
    place = folder / "checkpoint"
    return any((place / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json", ADAPTER))


def write_json(path: Path, value: Any) -> None:
    """Write, sync, rename: a reader sees the old file or the new one, never half of it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write, sync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_files.write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


def utc_timestamp() -> str:
    """The date and time in UTC, as ISO 8601 to the second: when a variant's training was finished."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Commit, versions of what decides the numbers, and the hardware."""
    import torch

    versions = {"python": platform.python_version(), "prefzoo": __version__}
    versions |= {package: version for package in PACKAGES if (version := version_of(package))}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    hardware = {"processor": cpu_name(), "cores": os.cpu_count(), "gpu": gpu, "platform": platform.platform()}
    return {"commit": _commit(), "versions": versions, "hardware": hardware}


def _commit() -> str | None:
    """The commit, and `-dirty` where tracked files other than results differ from it; None outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_name() -> str:
    """The CPU by its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
