"""`prefzoo eval`: evaluate existing models, results of lm-eval's own command, and AlpacaEval's annotation files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from prefzoo.cli.errors import PARTLY_FAILED
from prefzoo.cli.options import ENGINE, EQUIVALENCE, FILE, JUDGE, QUIET, TEMPLATE
from prefzoo.errors import UserError

if TYPE_CHECKING:
    from prefzoo.experiment.evaluate import Evaluation

READ = {  # the options of each way of evaluating, besides TARGETS, --out and --quiet
    "--annotations": {"annotations", "difficulties", "gamed", "order"},
    "--lm-eval-results": {"lm_eval_results", "base"},
    "--inspect-logs": {"inspect_logs", "base"},
    "--suite": {
        *("suite", "judge", "base", "max_new_tokens", "round_robin", "engine", "chat_template_kwargs"),
        *("equivalence", "judge_labels"),
    },
}


@click.command("eval")
@click.argument("targets", nargs=-1, type=FILE)
@click.option(
    "--suite", multiple=True, metavar="NAME|FILE",
    help="instruct:eval[:N] or a file with a prompt column; a benchmark: knowledge, arithmetic, instructions, "
    "perplexity, an lm-eval task's name, your own task file (.yaml) or folder. May be given several times.",
)  # fmt: skip
@JUDGE
@click.option(
    "--base", metavar="MODEL|FILE",
    help="The baseline, or its published answers (AlpacaEval's model_outputs.json); else the first run's model, or the "
    "first of several checkpoints.",
)  # fmt: skip
@click.option("--max-new-tokens", type=click.IntRange(1), default=64, show_default=True)
@click.option("--round-robin", is_flag=True, help="Also judge every model against every other.")
@EQUIVALENCE
@click.option("--judge-labels", metavar="FILE", help="Pairs labelled by people, to correct the judge's win rates.")
@ENGINE
@click.option("--lm-eval-results", multiple=True, type=FILE, help="Results of lm-eval's own command: files or folders.")
@click.option("--inspect-logs", multiple=True, type=FILE, help="JSON logs of Inspect AI: files or folders.")
@click.option("--annotations", multiple=True, type=FILE, help="AlpacaEval annotation files, or folders of them.")
@click.option("--difficulties", type=FILE, help="Table of the instructions' difficulties; else from the pool.")
@click.option("--gamed", type=FILE, help="Table of gamed baselines, to regularise the length term.")
@click.option("--order", type=FILE, help="JSON of the instructions in the order in which these tables number them.")
@click.option("--out", type=FILE, help="Folder for results (a csv for --annotations).")
@TEMPLATE
@QUIET
@click.pass_context
def command(
    context: click.Context, targets: tuple[Path, ...], suite: tuple[str, ...], judge: str, base: str | None,
    max_new_tokens: int, round_robin: bool, equivalence: float | None, judge_labels: str | None,
    engine: str, lm_eval_results: tuple[Path, ...],
    inspect_logs: tuple[Path, ...], annotations: tuple[Path, ...], difficulties: Path | None, gamed: Path | None,
    order: Path | None, out: Path | None, chat_template_kwargs: dict[str, Any] | None, quiet: bool,
) -> None:  # fmt: skip
    """Evaluate existing models.

    TARGETS are runs' folders or checkpoints, with --suite, or annotation files, with --annotations. One checkpoint is
    measured alone; more are compared with a baseline.
    """
    folder = out or Path("results") / "eval"
    results = "--lm-eval-results" if lm_eval_results else "--inspect-logs" if inspect_logs else ""
    mode = "--annotations" if annotations else results or "--suite"
    _refuse_ignored(context, mode)
    if annotations:
        _show_annotations([*annotations, *targets], difficulties, gamed, order, out)
    elif results:
        _show_results([*lm_eval_results, *inspect_logs, *targets], base, folder, inspect=bool(inspect_logs))
    elif targets and suite:
        from prefzoo.experiment.evaluate import Evaluation

        asked = Evaluation(
            targets, suite, judge, base, max_new_tokens, round_robin, folder, engine, chat_template_kwargs,
            equivalence, judge_labels,
        )  # fmt: skip
        if _show_evaluation(asked, quiet=quiet):
            context.exit(PARTLY_FAILED)
    else:
        raise UserError("eval: nothing to evaluate; give runs or checkpoints and a --suite, or --annotations and files")


def _refuse_ignored(context: click.Context, mode: str) -> None:
    """Raise UserError for options of `prefzoo eval` that have no effect in the mode."""
    read = {*READ[mode], "targets", "out", "quiet"}
    options = [p for p in context.command.params if p.name is not None and p.name not in read]
    given = [p.opts[0] for p in options if context.get_parameter_source(str(p.name)) is ParameterSource.COMMANDLINE]
    if given:
        raise UserError(f"eval: {', '.join(given)}: has no effect with {mode}; evaluate one after the other")


def _show_evaluation(asked: Evaluation, *, quiet: bool) -> bool:
    """Measure models, and print the board; `quiet` leaves out the progress. Return whether judge or a metric failed."""
    from rich.console import Console

    from prefzoo.evals.boards.narrow import print_markdown
    from prefzoo.experiment.evaluate import evaluate
    from prefzoo.runtime.paths import paths_from_here

    with paths_from_here():
        result = evaluate(asked, Console(emoji=False, quiet=quiet))
    console = Console(emoji=False)
    for line in result.models:
        click.echo(line)
    if result.alone:
        click.echo("no baseline; add --base MODEL to compare with one")
    result.board.render(console)
    if result.round_robin:
        print_markdown(console, result.round_robin, "round_robin.md")
    click.echo(f"\nEverything is in {asked.out}")
    return result.failing


def _show_results(paths: Sequence[Path], base: str | None, out: Path, *, inspect: bool) -> None:
    """Rank the models of result files of lm-eval or Inspect, write the board and its samples, and print it."""
    from rich.console import Console

    from prefzoo.evals.boards.result_files import with_baseline
    from prefzoo.evals.metrics.inspect_logs import read_logs
    from prefzoo.evals.metrics.lm_eval_files import read_results
    from prefzoo.evals.metrics.measure import write_samples
    from prefzoo.runtime.run_folders import BASE

    results = with_baseline(read_logs(paths) if inspect else read_results(paths), base, "--base")
    click.echo(f"{BASE}: {results.baseline}")
    for name, one in results.rows.items():
        write_samples(out / name, one)
    board = results.board()
    board.write(out)
    board.render(Console(emoji=False))
    click.echo(f"\nEverything is in {out}")


def _show_annotations(
    paths: Sequence[Path], difficulties: Path | None, gamed: Path | None, order: Path | None, out: Path | None
) -> None:
    """Print the win rates of AlpacaEval's annotation files, raw and length-controlled, and write them to a csv."""
    from rich.console import Console

    from prefzoo.evals.boards.annotated import board, notes, render
    from prefzoo.evals.judges.annotations import read
    from prefzoo.runtime.run_folders import write_text

    if out is not None and out.suffix != ".csv":
        raise UserError(f"--out {out}: unknown kind of file {out.suffix!r}; use .csv")
    rates = board(read(paths), difficulties, gamed, order)
    Console(soft_wrap=True, emoji=False).print(render(rates))
    for line in notes(rates):
        click.echo(line)
    if out is not None:
        write_text(out, rates.to_csv(index_label="model"))
        click.echo(f"all columns: {out}")
