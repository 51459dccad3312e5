"""Run a recipe up to its leaderboard: one pipeline for every recipe and every executor.

Data, reference, train and choose, measure, frontier, judge, report. A recipe without seeds and grids is the case of one
trial per variant. Each stage writes its output to disk, keyed by everything that it depends on: run again, it reuses
the output or resumes from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from rich.console import Console

from prefzoo.errors import UserError, VariantFailed
from prefzoo.evals.boards.leaderboard import Leaderboard
from prefzoo.evals.boards.narrow import print_markdown
from prefzoo.evals.judges.coverage import Coverage, coverage
from prefzoo.evals.judges.protocol import Judge
from prefzoo.evals.metrics.builtin.corrected import refusal
from prefzoo.experiment import search, sweep_report, unchanged
from prefzoo.experiment.best_trials import Choice, failures, train_and_choose
from prefzoo.experiment.check import Checked, check_run, load_checked
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.estimate import estimate
from prefzoo.experiment.executors import LOCAL, Executor, InOrder, Resources, run_stage
from prefzoo.experiment.folder import prepare_folder
from prefzoo.experiment.keep import remove_weights
from prefzoo.experiment.labels import FIELD, recipe_labels, with_labels
from prefzoo.experiment.opening import open_experiment
from prefzoo.experiment.request import Options, Request
from prefzoo.experiment.rounds import lines_of, train_rounds
from prefzoo.experiment.stages.frontier import write_frontier
from prefzoo.experiment.stages.judge import judge_models, play_round_robin
from prefzoo.experiment.stages.measure import read_numbers
from prefzoo.experiment.stages.report import (
    build_board,
    failed_variants,
    lost_trials,
    read_results,
    write_cards,
    write_report,
)
from prefzoo.experiment.stages.stage import FRONTIER, MEASURE, REFERENCE, Failed, Result, Skipped, Stage, parse
from prefzoo.experiment.standing import secure, standing_of
from prefzoo.recipe.load import Recipe
from prefzoo.runtime.distributed import leave_process_group, process_state
from prefzoo.runtime.live_view import VariantRow, show_live_view
from prefzoo.runtime.locking import run_lock
from prefzoo.runtime.progress import set_variant_state
from prefzoo.runtime.run_folders import BASE
from prefzoo.runtime.wall_time import WallTime
from prefzoo.training.job import steps_of

DEFAULTS, HERE = Options(), Resources()


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        folder: the run's.
        failed: by variant, why no trial was trained to its end, so that it cannot be ranked.
        faults: place in the recipe, or a seed -> why it gave no number, such as a judge that raises.
        boards: width of a terminal -> the board for it; empty if the same command would try something again.
    """

    folder: Path
    failed: dict[str, str]
    faults: dict[str, str] = field(default_factory=dict)
    boards: dict[str, str] = field(default_factory=dict)


def run(
    request: Request, options: Options = DEFAULTS, resources: Resources = HERE, recipe: Recipe | None = None
) -> Outcome:  # fmt: skip
    """Train every trial of a recipe, measure the chosen ones and the base, and rank them.

    Finished stages are reused unless `options.fresh`; interrupted ones resume. All processes call this.

    Args:
        request: which run.
        options: how it starts.
        resources: where its stages run.
        recipe: the recipe of the request; None to read it.

    Returns:
        The run's folder, and which variants failed.

    Raises:
        UserError: the recipe, its data or its model is wrong, the executor cannot do what is asked, or a training
            cannot go on for a reason other than a loss that diverges (see `train_trials`).
    """
    start = monotonic()
    resources.check()
    recipe = load_checked(request, resources.launch, recipe)
    console = _console(options)
    inputs = unchanged.inputs_of(request, recipe.resolved(), recipe.folder)  # before any of them is read
    checked = check_run(request, recipe, console)
    for line in checked.lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if checked.judge is not None and checked.experiment.prompts:
        checked.judge.check()
    with run_lock(request.folder(recipe.name)):
        clock = _begin(request, checked, options, start)
        try:
            outcome = _run(request, checked, console, options, resources, clock)
        finally:
            clock.write()
        if outcome.boards and inputs is not None and process_state().is_main_process:
            lines = [*checked.lines, *standing_of(checked.experiment, DEFAULTS).lines()]
            finished = unchanged.Finished(outcome.folder, lines, outcome.boards)
            unchanged.write_mark(finished, inputs)
    leave_process_group()
    return outcome


def run_one_stage(
    request: Request, text: str, options: Options = DEFAULTS, recipe: Recipe | None = None
) -> dict[str, Result]:  # fmt: skip
    """Run one stage alone, as a task of a SLURM array does.

    Args:
        request: which run.
        text: the stage, like `train:3`.
        options: only `quiet` has an effect here.
        recipe: the recipe of the request; None to read it.

    Returns:
        How it ended, by the trial's name.

    Raises:
        UserError: there is no such stage.
        VariantFailed: it failed.
    """
    recipe = load_checked(request, recipe=recipe)
    experiment = open_experiment(request, recipe, _console(options))
    experiment.base.may_stay = False  # nothing is trained after this stage
    stage = parse(text, list(experiment.trials))
    if process_state().is_main_process:
        _secure_stage(request, experiment, stage)
    process_state().wait_for_everyone()
    ended = run_stage(experiment, stage)
    leave_process_group()
    for result in ended.values():
        if isinstance(result, Failed):
            raise VariantFailed(f"{stage}: {result.reason}", result.step)
    return ended


def _secure_stage(request: Request, experiment: Experiment, stage: Stage) -> None:
    """Archive results that the trainings of an array would overwrite, before the first of them; no single one may do
    it.

    Raises:
        UserError: a training would overwrite results of other settings that are not archived.
    """
    standing = standing_of(experiment, DEFAULTS, replace=request.replace)
    if stage.kind == REFERENCE:
        with run_lock(experiment.folder):
            secure(standing, experiment.console)
        return
    lost = [name for name in stage.trials if name in standing.superseded]
    if lost and standing.is_to_be_archived:
        raise UserError(
            f"{experiment.folder}: {', '.join(lost)} holds results of other settings; archive them first by --stage "
            "reference, overwrite them by --replace, or name another --results"
        )
    secure(replace(standing, replace=True, trials={n: standing.trials[n] for n in stage.trials if n != BASE}))


def _console(options: Options) -> Console:
    return Console(quiet=options.quiet or not process_state().is_main_process, emoji=False)


def _run(
    request: Request, checked: Checked, console: Console, options: Options, resources: Resources, clock: WallTime
) -> Outcome:  # fmt: skip
    experiment, judge, recipe = checked.experiment, checked.judge, checked.experiment.recipe
    if search.is_sweep(recipe):
        console.print(sweep_report.plan(experiment), soft_wrap=True, markup=False)
    for line in lines_of(experiment):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if recipe.sweep is not None and not any(v.axes for v in recipe.variants.values()):
        console.print(sweep_report.NO_GRID, soft_wrap=True, markup=False)
    with show_live_view(f"{recipe.name} · {recipe.model}", _rows(experiment), console):
        with _executor(request, experiment, resources) as executor:
            choice, along = _train_and_measure(experiment, executor, judge)
        ranked = None if judge is None else _judge_and_rank(experiment, choice, judge, along)
    boards: dict[str, str] = {}
    if ranked is not None:
        ranked.board.write(experiment.folder)
        write_cards(experiment, read_results(experiment, choice), ranked.board)
        clock.write()
        page = write_report(experiment.folder)
        if not options.silent:
            _print_board(experiment, ranked.board, Console())
            console.print(f"\nEverything is in {experiment.folder}; to look at it: {page}", soft_wrap=True)
        board = ranked.board
        boards = unchanged.shown_at_widths(lambda to: _print_board(experiment, board, to)) if ranked.settled else {}
        if ranked.settled:
            remove_weights(experiment, choice.finals, ranked.board.order)
    failed = {name: failure.reason for name, failure in failed_variants(experiment, choice).items()}
    faults = checked.failing | (ranked.faults if ranked else {}) | lost_trials(experiment, choice)
    return Outcome(experiment.folder, failed, faults, {} if faults else boards)


def _begin(request: Request, checked: Checked, options: Options, start: float) -> WallTime:
    """Prepare the folder, and print the time of each part of the run, and its disk."""
    experiment, anew, main = checked.experiment, False, process_state().is_main_process
    if main:
        standing = prepare_folder(experiment, request, options)
        anew = standing.uses_nothing
        if not options.quiet:
            estimated = estimate(experiment, checked.judge, standing)
            for line in (*estimated.lines(), *(f"warning: {text}" for text in estimated.disk.warnings())):
                experiment.console.print(line, soft_wrap=True, markup=False, highlight=False)
    process_state().wait_for_everyone()
    return WallTime(experiment.folder, start, anew=anew, main=main)


def _rows(experiment: Experiment) -> list[VariantRow]:
    """Return the rows of the live view."""
    settings = {name: trial.variant.train for name, trial in experiment.trials.items()}
    pairs = len(experiment.pairs)
    return [
        VariantRow(BASE),
        *(VariantRow(name, steps_of(train, pairs), train.batch) for name, train in settings.items()),
    ]


@contextmanager
def _executor(request: Request, experiment: Experiment, resources: Resources) -> Iterator[Executor]:
    if resources.on == LOCAL:
        yield InOrder(experiment)
        return
    from prefzoo.experiment.ray_executor import ray_executor

    with ray_executor(resources, request, experiment) as executor:
        yield executor


def _train_and_measure(experiment: Experiment, executor: Executor, judge: Judge | None) -> tuple[Choice, Coverage]:
    """Return the ranked trials, and the number of verdicts on answers along the trainings."""
    apart = executor.slots > 1 and not experiment.recipe.rounds
    if apart or experiment.validation:  # else each training scores what it needs of the base itself
        executor.run([Stage(REFERENCE)])
    choice = (train_rounds if experiment.recipe.rounds else train_and_choose)(experiment, executor)
    names = [t.name for t in choice.finals]
    executor.run([Stage(MEASURE, (name,)) for name in (BASE, *names)])
    if experiment.frontier_points:
        executor.run([Stage(FRONTIER, (name,)) for name in (BASE, *names)])
    along: Coverage | Skipped = coverage([])
    if process_state().is_main_process:
        along = write_frontier(experiment, names, judge)
    if isinstance(along, Skipped):
        if experiment.recipe.evals.frontier:
            experiment.console.print(f"frontier: {along}", soft_wrap=True, markup=False)
        along = coverage([])
    return choice, along


@dataclass(frozen=True)
class _Ranked:
    """The board; by place or name, why a judge or metric gave no number; and whether nothing would be tried again."""

    board: Leaderboard
    faults: dict[str, str]
    settled: bool


def _judge_and_rank(experiment: Experiment, choice: Choice, judge: Judge, along: Coverage) -> _Ranked:
    folder, prompts, console = experiment.folder, experiment.prompts, experiment.console
    numbers = read_numbers(experiment, [BASE, *(t.name for t in choice.finals)])
    numbers = judge_models(judge, prompts, numbers, folder, console)
    numbers = with_labels(judge, recipe_labels(experiment.recipe, prompts), prompts, numbers, folder, console)
    more = play_round_robin(judge, prompts, numbers, folder, console, asked=experiment.recipe.evals.round_robin)
    for name in numbers:
        set_variant_state(name, "done", console)
    why = next((m.why_missing for m in numbers.values() if m.withheld), "")
    unavailable = any(b.get("reason") for m in numbers.values() for b in m.benchmarks.values())
    labels = next((reason for m in numbers.values() if (reason := refusal(m))), "")
    missing = along.missing or any(m.missing or m.unstated for m in numbers.values())
    settled = not (failures(experiment) or unavailable or labels or missing)
    board = build_board(experiment, choice, numbers, more)
    faults = {f"metric {name}": reason for name, reason in board.faults.items()}
    told = {"evals.judge": why, FIELD: labels, "evals.frontier": along.summary() if along.withheld else ""}
    faults |= {place: reason for place, reason in told.items() if reason}
    return _Ranked(board, faults, settled)


def _print_board(experiment: Experiment, board: Leaderboard, console: Console) -> None:
    """Print the results, whatever `quiet` says."""
    board.render(console)
    if search.is_sweep(experiment.recipe) and board.more:
        print_markdown(console, board.more, "leaderboard.md")
