"""Read AlpacaEval's annotation files, check that they share one prompt set, and compute raw win rates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prefzoo.errors import UserError
from prefzoo.evals.judges.coverage import MOST_MISSING
from prefzoo.evals.judges.protocol import TIE

COLUMNS = ("instruction", "output_1", "output_2", "generator_1", "generator_2", "preference")
FILE = "annotations.json"
DRAW = 0  # the old code of a tie, which some published files have
MOST_FAULTS = 20  # in one message


@dataclass(frozen=True)
class Annotations:
    """The annotations of one model against one baseline.

    Attributes:
        rows: a row per instruction, in the file's order, with `COLUMNS`; preferences are unchanged.
    """

    model: str
    baseline: str
    annotator: str
    rows: pd.DataFrame


def read(paths: Sequence[Path]) -> list[Annotations]:
    """Read annotations from files and folders.

    A folder stands for every `annotations.json` in it and below; if there are none, for the JSON files directly in it.

    Raises:
        UserError: a path has no annotations, a file has the wrong format, a model occurs twice, or prompt sets differ.
    """
    annotations = [a for path in paths for file in _files(path) for a in _read(file)]
    names = [a.model for a in annotations]
    twice = [f"{n}: annotated in {names.count(n)} places; keep one" for n in dict.fromkeys(names) if names.count(n) > 1]
    if twice:
        raise UserError(twice)
    check_aligned({a.model: [str(text) for text in a.rows["instruction"]] for a in annotations})
    return annotations


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        below = sorted(path.rglob(FILE)) or sorted(path.glob("*.json"))
        if not below:
            raise UserError(f"{path}: no {FILE} in this folder or below; name a file, or the folder that holds one")
        return below
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; name an {FILE}, or a folder that holds some")
    return [path]


def _read(file: Path) -> list[Annotations]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{file}: is not JSON ({type(e).__name__}: {str(e).splitlines()[0]}); give {FILE}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file}: must be a list of rows, each with {', '.join(COLUMNS)}")
    frame = pd.DataFrame(rows)
    absent = [name for name in COLUMNS if name not in frame]
    if absent:
        raise UserError(f"{file}: rows have no {', '.join(absent)}; annotations need {', '.join(COLUMNS)}")
    for name in ("instruction", "output_1", "output_2"):
        empty = frame[name].isna()
        if empty.any():
            raise UserError(f"{file}: row {int(empty.to_numpy().argmax()) + 1}: {name} is null; give its text")
    bases = frame["generator_1"].unique()
    if len(bases) > 1:
        raise UserError(f"{file}: {len(bases)} baselines ({', '.join(map(str, bases[:3]))}); keep one in a file")
    return [
        Annotations(str(model), str(bases[0]), _annotator(part), part.reset_index(drop=True))
        for model, part in frame.groupby("generator_2", sort=False)
    ]


def _annotator(part: pd.DataFrame) -> str:
    return ", ".join(map(str, part["annotator"].unique())) if "annotator" in part else "unknown"


def check_aligned(instructions: dict[str, list[str]]) -> None:
    """Check that all models have the same instructions.

    The model with the most instructions sets the standard. The others may lack up to 5% of its instructions.

    Args:
        instructions: the instructions of each model, by its name.

    Raises:
        UserError: a model has other, repeated or too few instructions; one line for each fault, with the counts.
    """
    most = max(instructions, key=lambda name: len(set(instructions[name])))
    all_, faults = set(instructions[most]), []
    for name, own in instructions.items():
        known = set(own)
        counts = f"{len(own)} rows, while {most} has {len(all_)} instructions"
        if len(known) < len(own):
            twice = next(text for text in own if own.count(text) > 1)
            faults.append(f"{name}: {counts}: {len(own) - len(known)} repeated, like {twice[:60]!r}; keep one of each")
        other, missing = known - all_, all_ - known
        if other:
            faults.append(f"{name}: {counts}: {len(other)} unknown, like {min(other)[:60]!r}; compare over one set")
        if len(missing) > MOST_MISSING * len(all_):
            faults.append(f"{name}: {counts}: {len(missing)} missing, like {min(missing)[:60]!r}; annotate them first")
    if faults:
        raise UserError(faults[:MOST_FAULTS])


def preferences(rows: pd.DataFrame) -> np.ndarray:
    """Convert preferences from alpaca-eval's scale.

    Args:
        rows: n rows with `preference`: 1 the baseline wins, 2 the model wins, 0 or 1.5 a tie.

    Returns:
        (n,) preferences in [0, 1], 1 where the model wins; NaN where the row has none in [1, 2].
    """
    values = pd.to_numeric(rows["preference"], errors="coerce").replace({float(DRAW): TIE}).to_numpy(dtype=float)
    return np.where((values >= 1) & (values <= 2), values - 1, np.nan)  # noqa: PLR2004 - alpaca-eval's coding


def win_rates(annotations: Annotations) -> dict[str, Any]:
    """Return win rates and counts as alpaca-eval 0.6.6's `get_winrate` defines them.

    The raw and discrete win rates and the standard error are in percent, the mean length is in characters. For the
    discrete rate each preference is first rounded to a win, a loss or a tie (exactly 1.5).
    """
    stated = pd.to_numeric(annotations.rows["preference"], errors="coerce").replace({float(DRAW): TIE})
    won = preferences(annotations.rows)
    valid = won[np.isfinite(won)]
    rounded = stated.replace({TIE: float(DRAW)}).round()
    discrete = preferences(pd.DataFrame({"preference": rounded}))
    return {
        "win_rate": 100 * float(valid.mean()) if len(valid) else np.nan,
        "standard_error": 100 * float(valid.std(ddof=1) / np.sqrt(len(valid))) if len(valid) > 1 else np.nan,
        "discrete_win_rate": 100 * float(np.nanmean(discrete)) if np.isfinite(discrete).any() else np.nan,
        "n_wins": int((valid > TIE - 1).sum()),
        "n_wins_base": int((valid < TIE - 1).sum()),
        "n_draws": int((stated == TIE).sum()),
        "n_total": len(valid),
        "n_missing": len(won) - len(valid),
        "avg_length": int(annotations.rows["output_2"].str.len().mean()),
    }
