"""The board of annotated models: raw and length-controlled win rate side by side, in AlpacaEval's columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table

from prefzoo.errors import UserError
from prefzoo.evals.judges.annotations import Annotations, win_rates
from prefzoo.evals.judges.coverage import MOST_MISSING
from prefzoo.evals.stats.difficulty import read_difficulties, read_gamed
from prefzoo.evals.stats.length_control import instructions, length_controlled

RATES = ("win_rate", "standard_error", "discrete_win_rate", "length_controlled_winrate", "lc_standard_error")
SHOWN = ("win_rate", "standard_error", "length_controlled_winrate", "lc_standard_error", "n_total", "avg_length")


def board(
    pool: Sequence[Annotations], difficulties: Path | None = None, gamed: Path | None = None, order: Path | None = None
) -> pd.DataFrame:
    """A row per model, best length-controlled win rate first; rates in percent, NaN where over 5% are missing.

    Args:
        difficulties: a table of the instructions' difficulties; if it holds gamed baselines too (as AlpacaEval's
            df_gamed.csv does), they are used.
        gamed: a table of gamed baselines.
        order: JSON of the instructions in the order in which these tables number them; else the first model's.

    Raises:
        UserError: a file that cannot be read, or does not cover the instructions.
    """
    numbered = _order(order) if order else [str(text) for text in pool[0].rows["instruction"]]
    over = instructions(pool)
    given = read_difficulties(difficulties, numbered) if difficulties else None
    regulariser = gamed or (difficulties if difficulties and _has_gamed(difficulties, numbered, over) else None)
    baselines = read_gamed(regulariser, numbered, over) if regulariser else ()
    controlled = length_controlled(pool, given, baselines)
    rows = {}
    for one in pool:
        lc = controlled[one.model]
        rows[one.model] = {
            **win_rates(one), "length_controlled_winrate": lc.value, "lc_standard_error": lc.stderr,
            "baseline": one.baseline, "annotator": one.annotator, "difficulty": lc.difficulty,
            "warnings": "; ".join(lc.warnings),
        }  # fmt: skip
    made = pd.DataFrame.from_dict(rows, orient="index")
    lost = made["n_missing"] > MOST_MISSING * (made["n_missing"] + made["n_total"])
    made.loc[lost, list(RATES)] = np.nan
    made["warnings"] = [
        f"{missing} of {missing + total} preferences are missing: withheld" if out else said
        for out, missing, total, said in zip(lost, made.n_missing, made.n_total, made.warnings, strict=True)
    ]
    return made.sort_values("length_controlled_winrate", ascending=False)


def _has_gamed(path: Path, numbered: Sequence[str], over: Sequence[str]) -> bool:
    try:
        return bool(read_gamed(path, numbered, over))
    except UserError:
        return False


def _order(path: Path) -> list[str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [str(row["instruction"] if isinstance(row, dict) else row) for row in found]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: --order needs a JSON list of instructions, or of rows with `instruction`") from None


def render(found: pd.DataFrame) -> Table:
    """The main columns; each rate with its standard error."""
    table = Table(title="Win rates in percent against " + ", ".join(found["baseline"].unique()))
    for column in ("model", "win rate", "length-controlled", "prompts", "mean length"):
        table.add_column(column)
    for name, row in found.iterrows():
        raw, se, lc, lc_se, n, length = (row[column] for column in SHOWN)
        cells = [_rate(raw, se), _rate(lc, lc_se), str(n), str(length)]
        table.add_row(str(name), *cells)
    return table


def notes(found: pd.DataFrame) -> list[str]:
    """Who judged, where the difficulties are from, and each model's warnings."""
    said = [f"judged by {', '.join(found['annotator'].unique())}; ± one standard error"]
    said.append(f"difficulty of the instructions: {'; '.join(found['difficulty'].unique())}")
    return said + [f"{name}: {row['warnings']}" for name, row in found.iterrows() if row["warnings"]]


def _rate(value: float, stderr: float) -> str:
    return f"{value:.1f} ± {stderr:.1f}" if np.isfinite(value) else "withheld"
