"""Read and write the folder of a run: one result or failure per variant, and the environment of the training."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefzoo.runtime import atomic_files
from prefzoo.runtime.versions import version_of
from prefzoo.version import __version__

BASE = "base"  # folder and row of the untrained model
RESOLVED = "recipe.resolved.yaml"
VERDICT = "verdict.json"
HOLDER = ".lock.json"  # names the process that runs in the folder
ADAPTER = "adapter_model.safetensors"
MEASURING = "measuring.json"
FAILED = "failed.json"
ARCHIVE_MARK = "@"  # between a run's name and the date of its archive; names of recipes cannot contain it
REMOVED = "weights_removed.txt"  # replaces the weights in a checkpoint; says why they were removed
PACKAGES = ("torch", "transformers", "accelerate", "peft", "datasets", "lm-eval", "alpaca-eval", "pandas")


@dataclass(frozen=True)
class RunResult:
    """The result of training one variant.

    Attributes:
        variant: Name of the variant.
        loss: Name of its loss.
        params: The loss's knobs.
        train: The loop's settings.
        seed: The seed.
        key: Hash of everything that the training depends on; the result is reused while this stays the same.
        metrics: Metrics of the last step, under TRL's names.
        costs: Seconds, pairs and tokens per second, peak memory in bytes, trained parameters, and the share of the
            GPU's peak flops where it is known. For variants trained side by side, also the number of variants. The
            seconds of a step are split evenly among the variants in it; the memory is that of all of them together.
        environment: Commit, versions, hardware, number of processes, and the time at which the training finished.
        weights: Hash of the checkpoint's files; if it does not match them, the variant is trained again.
        identity: Other inputs of the training: names and hashes of the model and the training data, version of the
            log-prob engine, and precision. Empty in results of earlier versions.
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
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def loss_shown(self) -> str:
        """The loss with the names of its modifiers, like `dpo with humanline and dr`."""
        names = [name.rpartition(":")[2] for entry in self.params.get("modifiers", ()) for name in entry]
        return f"{self.loss} with {' and '.join(names)}" if names else self.loss

    def write(self, folder: Path) -> None:
        """Write the result to `folder/result.json`."""
        write_json(folder / "result.json", asdict(self))


def read_result(folder: Path) -> RunResult | None:
    """Return the result in a variant's folder, or None if it is absent or cannot be read."""
    try:
        return RunResult(**json.loads((folder / "result.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@dataclass(frozen=True)
class Failure:
    """A variant whose training ended before its last step.

    Attributes:
        variant: Name of the variant.
        loss: Name of its loss.
        key: As `RunResult.key`; while it stays the same, the training is repeated only if the user asks for it. Empty
            after an error that the user can correct; the training is then always repeated.
        step: Optimiser step at which it failed, counted from 1; 0 if unknown.
        reason: One line for the user.
        own: Whether the variant itself is the cause, because its loss diverged or raised an error; False if the
            machine or the data is the cause.
    """

    variant: str
    loss: str
    key: str
    step: int
    reason: str
    own: bool = True

    def write(self, folder: Path) -> None:
        """Write the failure to `folder/failed.json`."""
        write_json(folder / FAILED, asdict(self))


def read_failure(folder: Path) -> Failure | None:
    """Return the failure in a variant's folder, or None if it is absent or cannot be read."""
    try:
        return Failure(**json.loads((folder / FAILED).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_trial(folder: Path) -> bool:
    """Return whether a folder holds files of a training."""
    marks = ("result.json", FAILED, "metrics.jsonl", "checkpoint")
    return folder.is_dir() and folder.name != BASE and any((folder / name).exists() for name in marks)


def discard_result(folder: Path) -> None:
    """Remove the result, measurements and failure of an earlier training from a variant's folder."""
    for name in ("result.json", "evals.json", MEASURING, FAILED):
        (folder / name).unlink(missing_ok=True)


def read_finished(folder: Path, key: str) -> RunResult | None:
    """Return a variant's result if it was trained with the settings of `key` and its weights are present."""
    result = read_result(folder)
    return result if result is not None and result.key == key and has_checkpoint(folder) else None


def why_removed(folder: Path) -> str:
    """Return why the weights of a variant were removed after it was measured; empty if they were not removed."""
    try:
        return (folder / "checkpoint" / REMOVED).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def has_checkpoint(folder: Path) -> bool:
    """Return whether a variant's folder holds full weights or an adapter that can be loaded."""
    checkpoint = folder / "checkpoint"
    if (checkpoint / REMOVED).is_file():  # an interrupted removal counts as complete
        return False
    return any((checkpoint / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json", ADAPTER))


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; a reader sees the old file or the new one, never a part of it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, creating its folder; a reader sees the old file or the new one, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_files.write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


def utc_timestamp() -> str:
    """Return the current time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Return the commit, the versions of packages that affect the numbers, and the hardware."""
    import torch

    versions = {"python": platform.python_version(), "prefzoo": __version__}
    versions |= {package: version for package in PACKAGES if (version := version_of(package))}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    hardware = {"processor": cpu_name(), "cores": os.cpu_count(), "gpu": gpu, "platform": platform.platform()}
    return {"commit": _commit(), "versions": versions, "hardware": hardware}


def _commit() -> str | None:
    """Return the commit, with `-dirty` if tracked files other than results differ; None outside a repository."""

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
    """Return the name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
