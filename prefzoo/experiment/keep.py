"""Remove weights once everything is measured, as the recipe's `keep` sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefzoo.experiment.context import Experiment
from prefzoo.experiment.search import Trial
from prefzoo.runtime import run_folders
from prefzoo.runtime.run_folders import BASE

CURE = "--fresh trains again, after setting keep: all"


def remove_weights(experiment: Experiment, finals: Sequence[Trial], order: Sequence[str]) -> None:
    """Remove the weights that the recipe does not keep; results, metrics, answers and cards stay.

    The next run completes an interrupted removal.

    Args:
        experiment: a run of which everything is measured.
        finals: the trials on the board.
        order: variants and the base, best first.
    """
    keep = experiment.recipe.keep
    leader = next((name for name in order if name != BASE), "")
    best = {t.name for t in finals if leader in (t.arm, t.name)}
    removed = 0
    for name in experiment.trials:
        checkpoint = experiment.folder / name / "checkpoint"
        stays = {
            "all": True, "adapters": (checkpoint / run_folders.ADAPTER).is_file(), "best": name in best, "none": False
        }  # fmt: skip
        if not stays[keep] and checkpoint.is_dir():
            removed += _remove(checkpoint, keep)
    if removed:
        experiment.console.print(f"keep: {keep}: {removed / 1e6:,.0f} MB of weights removed", soft_wrap=True)


def _remove(checkpoint: Path, keep: str) -> int:
    """Write a note that gives the reason, then remove a checkpoint's weights; return their bytes."""
    reason = f"the weights were removed after they were measured (keep: {keep}); {CURE}"
    run_folders.write_text(checkpoint / run_folders.REMOVED, f"{reason}\n")
    size = 0
    for path in checkpoint.glob("*.safetensors"):
        size += path.stat().st_size
        path.unlink()
    return size
