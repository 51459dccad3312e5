"""The board of annotated models: raw and length-controlled win rates, under the column names of AlpacaEval."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table

from prefzoo.errors import UserError
from prefzoo.evals.boards.verdict import NAMED
from prefzoo.evals.judges.annotations import Annotations, win_rates
from prefzoo.evals.judges.coverage import MOST_MISSING
from prefzoo.evals.stats.difficulty import read_difficulties, read_gamed
from prefzoo.evals.stats.length_control import instructions, length_controlled

RATES = ("win_rate", "standard_error", "discrete_win_rate", "length_controlled_winrate", "lc_standard_error")
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
SHOWN = ("win_rate", "standard_error", "length_controlled_winrate", "lc_standard_error", "n_total", "avg_length")


def board(
    pool: Sequence[Annotations], difficulties: Path | None = None, gamed: Path | None = None, order: Path | None = None
) -> pd.DataFrame:
    """Rank annotated models by their length-controlled win rates.

    Args:
        pool: annotations of each model; length control fits all of them together.
        difficulties: table of the instructions' difficulties. Gamed baselines in it (as in AlpacaEval's df_gamed.csv)
            are used, too.
        gamed: table of gamed baselines.
        order: JSON file with the instructions in the order in which these tables number them; by default the order of
            the first model's annotations.

    Returns:
        A row per model, best length-controlled win rate first. Rates are in percent, NaN if more than 5% of a model's
        preferences are missing.

    Raises:
        UserError: a file cannot be read, or does not cover the instructions.
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
    table = pd.DataFrame.from_dict(rows, orient="index")
    lost = table["n_missing"] > MOST_MISSING * (table["n_missing"] + table["n_total"])
    table.loc[lost, list(RATES)] = np.nan
    table["warnings"] = [
        f"{missing} of {missing + total} preferences are missing: withheld" if out else warnings
        for out, missing, total, warnings in zip(lost, table.n_missing, table.n_total, table.warnings, strict=True)
    ]
    return table.sort_values("length_controlled_winrate", ascending=False)


def _has_gamed(path: Path, numbered: Sequence[str], over: Sequence[str]) -> bool:
    try:
        return bool(read_gamed(path, numbered, over))
    except UserError:
        return False


def _order(path: Path) -> list[str]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [str(row["instruction"] if isinstance(row, dict) else row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: --order needs a JSON list of instructions, or of rows with `instruction`") from None


def render(rates: pd.DataFrame) -> Table:
    """Return the main columns as a table for a terminal, each rate with its standard error."""
    table = Table(title="Win rates in percent against " + ", ".join(rates["baseline"].unique()))
    for column in ("model", "win rate", "length-controlled", "prompts", "mean length"):
        table.add_column(column)
    for name, row in rates.iterrows():
        raw, se, lc, lc_se, n, length = (row[column] for column in SHOWN)
        cells = [_rate(raw, se), _rate(lc, lc_se), str(n), str(length)]
        table.add_row(str(name), *cells)
    return table


def notes(rates: pd.DataFrame) -> list[str]:
    """Return the judge, the source of the difficulties, and the warnings: a line for each kind of warning."""
    lines = [f"judged by {', '.join(rates['annotator'].unique())}; ± one standard error"]
    lines.append(f"difficulty of the instructions: {'; '.join(rates['difficulty'].unique())}")
    kinds: dict[str, list[tuple[str, str]]] = {}
    for name, row in rates.iterrows():
        for warning in filter(None, row["warnings"].split("; ")):
            kinds.setdefault(NUMBER.sub("…", warning), []).append((str(name), warning))
    return lines + [_grouped(kind, several) for kind, several in kinds.items()]


def _grouped(kind: str, several: list[tuple[str, str]]) -> str:
    """Return one line for all models with a warning; models with the largest number in it come first."""
    if len(several) == 1:
        return ": ".join(several[0])
    several = sorted(several, key=lambda one: -abs(float(NUMBER.findall(one[1])[0])) if "…" in kind else 0.0)
    shown = [f"{name} ({', '.join(NUMBER.findall(text))})" if "…" in kind else name for name, text in several[:NAMED]]
    more = f" and {len(several) - NAMED} more (column `warnings` of --out)" if len(several) > NAMED else ""
    return f"{len(several)} models: {kind}: {', '.join(shown)}{more}"


def _rate(value: float, stderr: float) -> str:
    return f"{value:.1f} ± {stderr:.1f}" if np.isfinite(value) else "withheld"
