"""`prefzoo eval`: models that are already there, results of lm-eval's own command, AlpacaEval's annotation files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.annotated import board, notes, render
from prefzoo.evals.judges.annotations import read
from prefzoo.evals.metrics.inspect_logs import read_logs
from prefzoo.evals.metrics.lm_eval_files import read_results
from prefzoo.evals.metrics.measure import Measured, write_samples
from prefzoo.experiment.evaluate import Evaluation, evaluate
from prefzoo.runtime.run_folders import BASE, write_text


def show_evaluation(asked: Evaluation, *, quiet: bool) -> bool:
    """Measure models, and print the board; `quiet` leaves out the progress. Return whether judge or a metric failed."""
    result, console = evaluate(asked, Console(emoji=False, quiet=quiet)), Console(emoji=False)
    for line in result.models:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if result.alone:
        console.print("no baseline; --base MODEL names one, to compare with it", highlight=False, soft_wrap=True)
    result.board.render(console)
    if result.round_robin:
        console.print(Markdown(result.round_robin))
    console.print(f"\nEverything is in {asked.out}", soft_wrap=True)
    return result.failing


def show_results(paths: Sequence[Path], base: str | None, out: Path, *, inspect: bool = False) -> None:
    """Rank the models of result files of lm-eval or Inspect, and print the board.

    Args:
        paths: files, or folders of them.
        base: the baseline's name; None: the first model.
        out: folder for the board and its samples.
        inspect: whether they are Inspect's logs.

    Raises:
        UserError: a file is of another format, or there is no such baseline.
    """
    numbers = with_baseline(read_logs(paths) if inspect else read_results(paths), base, "--base")
    console = Console(emoji=False)
    console.print(f"{BASE}: {next(iter(numbers.values()))[0]}", markup=False, highlight=False, soft_wrap=True)
    for name, (_, one) in numbers.items():
        write_samples(out / name, one)
    ranked = leaderboard.build({name: one for name, (_, one) in numbers.items()}, {})
    ranked.write(out)
    ranked.render(console)
    console.print(f"\nEverything is in {out}", soft_wrap=True)


def with_baseline(results: Mapping[str, Measured], base: str | None, option: str) -> dict[str, tuple[str, Measured]]:
    """Put the baseline first, under the name that boards give it.

    Args:
        results: what was measured, by the model's name.
        base: the baseline's name; None: the first model.
        option: that names it, for messages.

    Returns:
        For each row of a board the model's own name, and what was measured.

    Raises:
        UserError: there is no such baseline, or another model has the name of its row.
    """
    first = base or next(iter(results))
    if first not in results:
        near, known = did_you_mean(first, list(results)), ", ".join(results)
        raise UserError(f"{option} {first}: no results of that model{near}; there are {known}")
    if BASE in results and first != BASE:
        raise UserError(f"{BASE}: a model named like the baseline's row; name it by {option}, or rename its folder")
    others = {name: (name, one) for name, one in results.items() if name != first}
    return {BASE: (first, results[first]), **others}


def show_annotations(
    paths: Sequence[Path], difficulties: Path | None, gamed: Path | None, order: Path | None, out: Path | None
) -> None:
    """Print the win rates of AlpacaEval's annotation files, raw and length-controlled.

    Args:
        paths: files, or folders of them.
        difficulties: table of the instructions' difficulties; None: from the pool.
        gamed: table of gamed baselines, to regularise the length term.
        order: JSON of the instructions in the order in which these tables number them.
        out: csv file for all columns.

    Raises:
        UserError: a file is not AlpacaEval's, or `out` is no csv.
    """
    if out is not None and out.suffix != ".csv":
        raise UserError(f"--out {out}: unknown kind of file {out.suffix!r}; use .csv")
    rates, console = board(read(paths), difficulties, gamed, order), Console(soft_wrap=True, emoji=False)
    console.print(render(rates))
    for line in notes(rates):
        console.print(line, markup=False, highlight=False)
    if out is not None:
        write_text(out, rates.to_csv(index_label="model"))
        console.print(f"all columns: {out}")
