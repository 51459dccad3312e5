"""The last stage of a run: a model card beside every checkpoint, and the run as one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefzoo.data.audit import training_data_lines
from prefzoo.errors import UserError
from prefzoo.evals.boards.leaderboard import BASE, Leaderboard
from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.boards.tables import number
from prefzoo.evals.metrics.registry import Metric
from prefzoo.evals.report import page
from prefzoo.experiment import cards
from prefzoo.experiment.context import Run
from prefzoo.runtime.run_folders import RunResult


def write_cards(run: Run, trained: Mapping[str, RunResult], board: Leaderboard) -> None:
    """A card beside each variant's checkpoint."""
    plain, data = run.recipe.resolved(), training_data_lines(run.pairs)
    for name, result in trained.items():
        loss, rows = run.recipe.variants[name].loss_obj, _results(board, name)
        about = cards.About(result, loss, plain, run.recipe.folder, rows, data, board.verdict())
        cards.write(about, run.folder / name / "checkpoint")


def _results(board: Leaderboard, name: str) -> list[tuple[str, ...]]:
    """Metric, value, the base's, n, what it was measured on, and by whom."""
    costs = [m for m in board.long.metric if board.metrics[m].measured_on == "training"]
    long = board.long[~board.long.metric.isin(costs)]
    long = long.astype(object).where(long.notna(), None)
    base = {row["metric"]: row for row in long[long.variant == BASE].to_dict("records")}
    found: list[tuple[str, ...]] = []
    for row in long[long.variant == name].to_dict("records"):
        if row["value"] is not None:
            metric = board.metrics[str(row["metric"])]
            two = [_number(metric, one) if one else "-" for one in (row, base.get(row["metric"]))]
            on = Path((row.get("suite") or "-").rpartition("@")[0]).name
            found.append((str(row["metric"]), *two, f"{row['n']:.0f}", on or "-", row.get("judge") or "-"))
    return found


def _number(metric: Metric, row: dict[Any, Any]) -> str:
    return number(metric, row["value"], row["low"], row["high"])


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a run's folder, and return its path.

    Raises:
        UserError: the folder is no run's, or the page cannot be written.
    """
    found, target = read_run(folder), out or folder / page.FILE
    try:
        page.write(found, target)
    except OSError as e:
        raise UserError(f"{target}: cannot be written ({e.strerror}); name another file with --out") from None
    return target
