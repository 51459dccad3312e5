"""Collect the sources of a run's data: their shares, and the training metrics of each variant on each source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefzoo.evals.boards.run_files import RunFiles, VariantFiles

LAST = 0.1  # last share of the steps, over which training metrics are averaged
METRICS = {"rewards/accuracies": "accuracy", "loss": "loss"}


@dataclass(frozen=True)
class SourceResult:
    """The training metrics of a variant on one source, at the end of the training; NaN if not logged.

    Attributes:
        variant: the variant's name.
        source: the source's name.
        accuracy: share of the source's pairs whose chosen answer has the higher reward.
        loss: mean loss, in the unit of the variant's loss.
    """

    variant: str
    source: str
    accuracy: float
    loss: float


def of_audits(run: RunFiles) -> list[dict[str, Any]]:
    """Return the sources of every data set with several sources, each with its use (`train` or `eval`)."""
    return [{"use": use, **one} for use, audit in run.audits.items() for one in audit.get("sources") or ()]


def trained(run: RunFiles) -> list[SourceResult]:
    """Return the training metrics of each variant on each source, over the last tenth of the steps."""
    names = [one["name"] for one in of_audits(run) if one["use"] == "train"]
    variants = [v for v in run.variants.values() if not v.steps.empty]
    return [SourceResult(v.name, name, **_last(v, name)) for v in variants for name in names]


def _last(variant: VariantFiles, source: str) -> dict[str, float]:
    end = variant.steps.tail(max(1, round(LAST * len(variant.steps))))
    columns = {label: f"sources/{source}/{metric}" for metric, label in METRICS.items()}
    return {label: float(end[name].mean()) if name in end else np.nan for label, name in columns.items()}
