"""Checkpoints ready to share: the cards that `prefzoo run` writes, and `prefzoo push`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pandas as pd

from prefzoo.cli.experiment import Run
from prefzoo.data.audit import in_words
from prefzoo.evals.boards.leaderboard import BASE, Leaderboard
from prefzoo.evals.boards.selection import COST_ROW
from prefzoo.evals.boards.tables import GIB, number
from prefzoo.experiment import cards, hub
from prefzoo.runtime.run_folders import RunResult

MIB = 2**20


def write_cards(run: Run, trained: Mapping[str, RunResult], board: Leaderboard) -> None:
    """A card beside each variant's checkpoint."""
    plain, data = run.recipe.resolved(), in_words(run.pairs)
    for name, result in trained.items():
        loss, rows = run.recipe.variants[name].loss_obj, _results(board.long, name)
        about = cards.About(result, loss, plain, run.recipe.folder, rows, data, board.verdict())
        cards.write(about, run.folder / name / "checkpoint")


def _results(long: pd.DataFrame, name: str) -> list[tuple[str, ...]]:
    """Metric, value, the base's, n, what it was measured on, and by whom."""
    long = long[long.metric != COST_ROW].astype(object).where(long.notna(), None)
    base = {row["metric"]: row for row in long[long.variant == BASE].to_dict("records")}
    found: list[tuple[str, ...]] = []
    for row in long[long.variant == name].to_dict("records"):
        if row["value"] is not None:
            two = [_number(one) if one else "-" for one in (row, base.get(row["metric"]))]
            on = Path((row.get("suite") or "-").rpartition("@")[0]).name
            found.append((str(row["metric"]), *two, f"{row['n']:.0f}", on or "-", row.get("judge") or "-"))
    return found


def _number(row: dict[Any, Any]) -> str:
    return number(str(row["metric"]), row["value"], row["low"], row["high"])


def show_push(variant: Path, to: str, base_model: str | None, *, private: bool, dry_run: bool) -> None:
    """Say what goes up, and upload it unless `dry_run`."""
    found = hub.files(variant, to, base_model)
    for name, content in found.items():
        click.echo(f"  {name}  {_size(hub.size(content))}")
    total = _size(sum(hub.size(content) for content in found.values()))
    if dry_run:
        click.echo(f"{len(found)} files, {total}, would go to {to}; nothing was uploaded")
        return
    click.echo(f"uploading {len(found)} files, {total}, to {to}")
    click.echo(hub.upload(found, to, private=private))


def _size(count: int) -> str:
    if count >= GIB:
        return f"{count / GIB:.1f} GiB"
    return f"{count / MIB:.1f} MiB" if count >= MIB else f"{max(1, round(count / 1024))} KiB"
