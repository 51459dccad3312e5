"""`prefzoo compare`: any runs and variants side by side."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.evals.boards import cells, leaderboard
from prefzoo.evals.boards.comparison import compare
from prefzoo.evals.boards.tables import render, text, write_parquet
from prefzoo.runtime import atomic_files, run_folders
from prefzoo.runtime.run_folders import BASE

RESULT_FILES = (".json", ".eval")  # what other tools write, in place of a folder of prefzoo's
TWO = 2  # columns that name a row
DIFFERENCES = "Differences from the base in points, paired by document; p after Holm."
WIDTH = 120  # of a table in a file


def show_comparison(
    paths: Sequence[Path], baseline: str | None, metrics: Sequence[str], sort: str | None, form: str,
    output: Path | None, *, unranked: bool, equivalence: float | None = None,
) -> None:  # fmt: skip
    """Print it, or write it to a file.

    Raises:
        UserError: as `compare`, or Parquet without a file.
    """
    if form == "parquet" and output is None:
        raise UserError("--format parquet: is binary, and no file is named; add --output FILE")
    if any(path.suffix in RESULT_FILES for path in paths):
        asked = {"--metric": metrics, "--sort": sort, "--unranked": unranked, "--equivalence": equivalence}
        _compare_results(paths, baseline, form, output, [option for option, value in asked.items() if value])
        return
    comparison = compare(paths, baseline, metrics or None, sort, unranked, equivalence)
    if form == "table":
        console = Console() if output is None else Console(record=True, file=io.StringIO(), width=WIDTH)
        render(comparison, console)
        if output is not None:
            run_folders.write_text(output, console.export_text())
    elif form == "parquet" and output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_files.write_atomically(output) as partial:
            write_parquet(comparison, partial)
    elif output is not None:
        run_folders.write_text(output, text(comparison, form))
    else:
        click.echo(text(comparison, form), nl=False)
    if output is not None:
        click.echo(f"written: {output}", err=True)


def _compare_results(
    paths: Sequence[Path], baseline: str | None, form: str, output: Path | None, ignored: Sequence[str]
) -> None:
    """Compare the models of result files of lm-eval and logs of Inspect, document by document."""
    from prefzoo.cli.evaluate import with_baseline
    from prefzoo.evals.metrics.inspect_logs import is_log, read_logs
    from prefzoo.evals.metrics.lm_eval_files import read_results

    if ignored or form not in ("table", "md", "csv", "json"):
        options = ", ".join([*ignored, *([f"--format {form}"] if form in ("html", "parquet") else [])])
        raise UserError(f"{options}: has no meaning for result files of other tools; leave it out")
    logs = [path for path in paths if is_log(path)]
    others = [path for path in paths if path not in logs]
    results = dict(read_logs(logs)) if logs else {}
    for name, one in (read_results(others) if others else {}).items():
        known = results.get(name)
        results[name] = one if known is None else replace(one, benchmarks=known.benchmarks | one.benchmarks)
    numbers = with_baseline(results, baseline, "--baseline")
    board = leaderboard.build({name: one for name, (_, one) in numbers.items()}, {})
    if form == "table":
        console = Console(emoji=False) if output is None else Console(record=True, file=io.StringIO(), width=WIDTH)
        console.print(f"{BASE}: {numbers[BASE][0]}", markup=False, highlight=False, soft_wrap=True)
        board.render(console)
        differences = board.diagnostics().astype(str)
        if len(differences.columns) > TWO:
            console.print(cells.table(differences, DIFFERENCES), markup=False)
        shown = "" if output is None else console.export_text()
    else:
        json_text = json.dumps({**board.as_json(), "rows": json.loads(board.long.to_json(orient="records"))}, indent=1)
        shown = {"md": board.markdown(), "csv": board.csv(), "json": json_text + "\n"}[form]
    if output is not None:
        run_folders.write_text(output, shown)
        click.echo(f"written: {output}", err=True)
    elif shown:
        click.echo(shown, nl=False)
