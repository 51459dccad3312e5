"""How losses stand labels that are flipped, from the rows of one study for each share of flipped labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from examples.studies.agreement import ROWS, read_rows
from examples.studies.numbers import ALPHA, POINTS, START, Numbers
from prefzoo.errors import UserError
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import by_student, detectable_by, seeded_difference, seeded_slope
from prefzoo.evals.stats.intervals import Values

PREFIX, TEN, FEWEST = "noise_", 10, 3  # slopes are per ten points of flipped labels; settings of a line


def is_noise(study: str) -> bool:
    """Return whether a study is one share of flipped labels."""
    return study.startswith(PREFIX)


def trend_of(folders: Sequence[Path]) -> Numbers:
    """Return how the metric of each loss changes with the share of flipped labels, alone and compared with dpo.

    Args:
        folders: of studies that differ in that share alone, named `noise_SHARE`, each with a `rows.json`.

    Returns:
        `losses`: the value of each loss at each share, and its change per ten points of flipped labels.
        `less_dpo`: that change less dpo's, paired by seed and prompt. `mean`: its value less that of dpo, averaged over
        the shares. `sees`: the smallest difference of changes that is detected in four of five repetitions. All of it
        is in points.

    Raises:
        UserError: a file is missing, or the studies differ in metric, prompts, losses or the number of seeds.
    """
    folders = sorted(folders, key=_share)
    if len(folders) < FEWEST:
        raise UserError(f"trend: takes {FEWEST} folders or more ({len(folders)} given)")
    read = [read_rows(folder) for folder in folders]
    for folder, one in zip(folders[1:], read[1:], strict=True):
        for key in ("metric", "prompts"):
            if one[key] != read[0][key]:
                raise UserError(f"{folder / ROWS} and {folders[0] / ROWS}: have different {key}")
        if _shape(one["values"]) != _shape(read[0]["values"]):
            raise UserError(f"{folder / ROWS} and {folders[0] / ROWS}: have different losses or numbers of seeds")
    shares = np.array([_share(folder) for folder in folders]) / TEN
    values = {loss: POINTS * np.array([one["values"][loss] for one in read]) for loss in read[0]["values"]}
    others = [loss for loss in values if loss != START]
    paired = [seeded_slope(values[loss] - values[START], shares) for loss in others]
    means = {loss: several.mean(0) for loss, several in values.items()}
    return {
        "losses": _losses(values, shares),
        "less_dpo": _rows(others, [by_student(*one) for one in paired], ("falls more", "falls less")),
        "mean": _rows(others, [seeded_difference(means[loss], means[START]) for loss in others], ("worse", "better")),
        "sees": max(detectable_by(stderr, freedom) for _, stderr, freedom in paired),
    }


def _share(folder: Path) -> float:
    try:
        return float(folder.name.removeprefix(PREFIX))
    except ValueError:
        raise UserError(f"{folder}: is not named {PREFIX}SHARE, like {PREFIX}10") from None


def _shape(values: Mapping[str, Sequence[object]]) -> dict[str, int]:
    return {loss: len(seeds) for loss, seeds in sorted(values.items())}


def _losses(values: Mapping[str, Values], shares: Values) -> list[Numbers]:
    """Return a row for each loss, the one that changes least first."""
    slopes = [by_student(*seeded_slope(own, shares)) for own in values.values()]
    rows = _rows(list(values), slopes, ("falls", "rises"))
    for row in rows:
        at = values[str(row["variant"])].mean((1, 2))
        row |= {f"at_{TEN * share:g}": float(value) for share, value in zip(shares, at, strict=True)}
    return rows


def _rows(losses: Sequence[str], gaps: Sequence[intervals.Difference], outcomes: tuple[str, str]) -> list[Numbers]:
    """Return a row for each loss, highest first; p after Holm.

    Args:
        losses: their names.
        gaps: what each has.
        outcomes: the words for one below zero and for one above.
    """
    ps = intervals.holm([gap.p for gap in gaps])
    rows: list[Numbers] = [
        {
            "variant": loss, "by": gap.value, "low": gap.low, "high": gap.high, "p_holm": p,
            "outcome": "undecided" if p > ALPHA else outcomes[gap.value > 0],
        }
        for loss, gap, p in zip(losses, gaps, ps, strict=True)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -float(row["by"]))
