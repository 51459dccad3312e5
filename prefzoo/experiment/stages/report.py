"""The report stage: write the leaderboard, a model card beside every checkpoint on it, and the run as one page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prefzoo.data.audit import training_data_lines
from prefzoo.data.flips import FLIPPED
from prefzoo.engine import reference_logprobs
from prefzoo.errors import UserError
from prefzoo.evals.boards import leaderboard, run_files
from prefzoo.evals.boards.cautions import Setting, cautions
from prefzoo.evals.boards.cells import number
from prefzoo.evals.boards.costs import run_cost, with_price
from prefzoo.evals.boards.judged_files import pairs_seen
from prefzoo.evals.boards.leaderboard import Leaderboard
from prefzoo.evals.boards.multi_seed import over_seeds
from prefzoo.evals.boards.provenance import Provenance
from prefzoo.evals.boards.run_files import SWEEP, failure_text, lost_seeds, read_run
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric
from prefzoo.evals.report import page
from prefzoo.evals.suites.tasks import suite_key
from prefzoo.experiment import cards, round_views, search, sweep_report
from prefzoo.experiment.best_trials import Choice, failures
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.data_card import FILE as DATA_CARD
from prefzoo.experiment.data_card import card_lines
from prefzoo.runtime import run_folders
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.measuring_time import measuring_costs
from prefzoo.runtime.run_folders import BASE, Failure, RunResult
from prefzoo.training.oom_retry import memory_notes


def build_board(experiment: Experiment, choice: Choice, numbers: dict[str, Measured], more: str) -> Leaderboard:
    """Rank the variants of a run.

    Args:
        experiment: what was run; of a sweep, `sweep.json` is written.
        choice: which trials are ranked.
        numbers: theirs and the base's, by name.
        more: further tables, in Markdown.

    Returns:
        The board: a row for each variant, over the seeds of its chosen setting.
    """
    results = read_results(experiment, choice)
    costs = {
        name: with_price(result.costs, experiment.recipe.price_per_hour) | measuring_costs(experiment.folder / name)
        for name, result in results.items()
    }
    provenance, points = _provenance(experiment, results), experiment.recipe.evals.equivalence
    board = leaderboard.build(numbers, costs, provenance, more + memory_notes(costs), points)
    if search.is_sweep(experiment.recipe):
        board = _over_seeds(experiment, choice, numbers, board, costs)
    failed = {name: failure_text(failure) for name, failure in failed_variants(experiment, choice).items()}
    return replace(board, failed=failed, cautions=cautions(numbers, _setting(experiment, choice, results)))


def lost_trials(experiment: Experiment, choice: Choice) -> dict[str, str]:
    """Return the seeds of ranked settings that failed, with the reasons."""
    return lost_seeds(sweep_report.record(experiment, choice))


def _setting(experiment: Experiment, choice: Choice, results: Mapping[str, RunResult]) -> Setting:
    sampled = experiment.recipe.rounds is not None  # each round has its own pairs
    seen = {} if sampled else {name: pairs_seen(result) for name, result in results.items()}
    held_out, prompts = bool(experiment.held_out), bool(experiment.prompts)
    lost = lost_trials(experiment, choice)
    tokens, orphans = experiment.recipe.evals.max_new_tokens, run_files.orphans(experiment.folder, experiment.trials)
    flipped = experiment.audits["train"]["counts"].get(FLIPPED, 0)
    return Setting(tokens, seen, len(experiment.pairs), held_out, prompts, lost, orphans, flipped)


def failed_variants(experiment: Experiment, choice: Choice) -> dict[str, Failure]:
    """Return the variants of which no trial was trained to its end, with the first reason."""
    ranked, trials, failed = {t.arm for t in choice.finals}, experiment.trials.values(), failures(experiment)
    first = {t.arm: failed[t.name] for t in reversed(trials) if t.name in failed and t.arm not in ranked}
    return {arm: first[arm] for arm in experiment.recipe.variants if arm in first}


def read_results(experiment: Experiment, choice: Choice) -> dict[str, RunResult]:
    """Return the training results of each ranked trial, from disk."""
    results = {t.name: run_folders.read_result(experiment.folder / t.name) for t in choice.finals}
    return {name: result for name, result in results.items() if result is not None}


def write_cards(experiment: Experiment, results: Mapping[str, RunResult], board: Leaderboard) -> None:
    """Write a card beside the checkpoint of each trial on the board.

    Args:
        experiment: what was run.
        results: the training results of each ranked trial, by name.
        board: theirs.
    """
    plain = experiment.recipe.resolved()
    card = json.loads((experiment.folder / DATA_CARD).read_text(encoding="utf-8"))
    data = [*card_lines(card), *training_data_lines(experiment.pairs)]
    for name, result in results.items():
        loss, rows = experiment.trials[name].variant.loss_obj, _rows(board, name)
        own = round_views.card_lines(experiment, experiment.trials[name]) or data
        about = cards.About(result, loss, plain, experiment.recipe.folder, rows, own, str(board.verdict()))
        cards.write(about, experiment.folder / name / "checkpoint")


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a run's folder, and return its path.

    Raises:
        UserError: the folder is not a run's, or the page cannot be written.
    """
    run, target = read_run(folder), out or folder / page.FILE
    try:
        page.write(run, target)
    except OSError as e:
        raise UserError(f"{target}: cannot be written ({e.strerror}); name another file with --out") from None
    return target


def _over_seeds(
    experiment: Experiment, choice: Choice, numbers: dict[str, Measured], board: Leaderboard,
    costs: Mapping[str, Mapping[str, float]],
) -> Leaderboard:  # fmt: skip
    """Return the board with a row per variant, and how the variants were tuned."""
    seed_of = {t.name: t.seed for t in choice.finals}
    board.long["seed"] = [seed_of.get(v, s) for v, s in zip(board.long.variant, board.long.seed, strict=True)]
    arms = {arm: [t.name for t in choice.finals if t.arm == arm] for arm in dict.fromkeys(t.arm for t in choice.finals)}
    cost = run_cost(costs, {t.name: t.arm for t in choice.finals}, board.metrics[board.primary].row_name)
    board = over_seeds(board, numbers, arms, cost)
    run_folders.write_json(experiment.folder / SWEEP, sweep_report.record(experiment, choice))
    tuning = sweep_report.table(experiment, choice, numbers, board.primary)
    return replace(board, more="\n".join(part for part in (tuning, board.more) if part))


def _provenance(experiment: Experiment, results: Mapping[str, RunResult]) -> Provenance:
    """Return where the numbers come from, by name and content."""
    recipe, evals = experiment.recipe, experiment.recipe.evals
    prompts = pairs = ""
    if experiment.prompts:
        prompts = f"{evals.prompts}@{key_of([asdict(p) for p in experiment.prompts])}"
    if experiment.held_out:
        pairs = f"{recipe.data.eval_spec}@{reference_logprobs.rows_key(experiment.held_out)[:16]}"
    return Provenance(
        recipe.seed, BASE, prompts, pairs,
        {suite: f"{suite}@{suite_key(suite, recipe.folder)}" for suite in evals.benchmarks},
        {name: r.loss_shown for name, r in results.items()},
        {name: str(r.environment.get("commit") or "") for name, r in results.items()},
    )  # fmt: skip


def _rows(board: Leaderboard, name: str) -> list[tuple[str, ...]]:
    """Return metric, value, the base's, n, what it was measured on, and by whom."""
    costs = [m for m in board.long.metric if board.metrics[m].measured_on == "training"]
    long = board.long[~board.long.metric.isin(costs)]
    long = long.astype(object).where(long.notna(), None)
    base = {row["metric"]: row for row in long[long.variant == BASE].to_dict("records")}
    rows: list[tuple[str, ...]] = []
    for row in long[long.variant == name].to_dict("records"):
        if row["value"] is not None:
            metric = board.metrics[str(row["metric"])]
            two = [_number(metric, one) if one else "-" for one in (row, base.get(row["metric"]))]
            on = Path((row.get("suite") or "-").rpartition("@")[0]).name
            rows.append((str(row["metric"]), *two, f"{row['n']:.0f}", on or "-", row.get("judge") or "-"))
    return rows


def _number(metric: Metric, row: dict[Any, Any]) -> str:
    return number(metric, row["value"], row["low"], row["high"])
