"""Train a single policy, as most tests do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefzoo.runtime.progress import Report
from prefzoo.training.checkpoint import Checkpoints
from prefzoo.training.job import Job
from prefzoo.training.loop import train
from prefzoo.training.member import Member


def ignore(done: int, total: int, note: object) -> None:
    """Take a report and show nothing."""


def train_one(
    job: Job, model: Any, metrics_file: Path, report: Report = ignore, checkpoints: Checkpoints | None = None
) -> Member:
    """Train `model` in place.

    Raises:
        VariantFailed: The training diverges.
    """
    member = Member(job, metrics_file, checkpoints)
    train([member], model, report)
    if member.failed is not None:
        raise member.failed
    return member
