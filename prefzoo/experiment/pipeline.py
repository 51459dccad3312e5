"""A run as a graph of stages: reference, trials (with early stopping), the choice, what chosen ones give on the test.

The choice is made by the validation pairs alone, before anything of the test split is measured.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from prefzoo.engine import reference_logprobs
from prefzoo.errors import UserError
from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.multi_seed import over_seeds, spread
from prefzoo.evals.boards.run_files import SWEEP
from prefzoo.evals.metrics.measure import Measured
from prefzoo.experiment import search as sweep
from prefzoo.experiment.executors import Placer, Placing, placer
from prefzoo.experiment.plain import checked
from prefzoo.experiment.search import Score, Trial
from prefzoo.experiment.stages.dispatch import DONE, FAILED, Opened, Order, Stage, do, failures, named, opened, score_of
from prefzoo.experiment.stages.judge import everyone, judged, prepared
from prefzoo.experiment.stages.measure import known, receipts
from prefzoo.experiment.stages.report import write_report
from prefzoo.experiment.stages.train import RESUME
from prefzoo.recipe import load as recipes
from prefzoo.runtime import run_folders
from prefzoo.runtime.distributed import leave_process_group, process_state
from prefzoo.runtime.locking import run_lock
from prefzoo.training.job import steps_of


@dataclass(frozen=True)
class Chosen:
    """What the validation pairs said.

    Attributes:
        settings: the chosen one of each variant that has one.
        scores: of every trial that finished.
        stopped: trial -> the steps after which it was stopped.
    """

    settings: dict[str, str]
    scores: dict[str, Score]
    stopped: dict[str, int]


def run_stages(
    path: Path, overrides: Sequence[str], results: Path, *, fresh: bool, save_every: float, placing: Placing,
    retry_failed: bool = False, quiet: bool = False,
) -> tuple[Path, dict[str, str]]:  # fmt: skip
    """A sweep, or any recipe on Ray; what is finished is not done again unless `fresh`.

    Returns the run's folder, and why the variants failed of which no setting finished.
    """
    found = checked(path, overrides)
    with run_lock(results / found.name):
        failed = _run_stages(
            path, overrides, results, fresh=fresh, save_every=save_every, placing=placing, retry_failed=retry_failed,
            quiet=quiet,
        )  # fmt: skip
    leave_process_group()
    return results / found.name, failed


def _run_stages(
    path: Path, overrides: Sequence[str], results: Path, *, fresh: bool, save_every: float, placing: Placing,
    retry_failed: bool, quiet: bool,
) -> dict[str, str]:  # fmt: skip
    main = process_state().is_main_process
    order = Order(str(path.resolve()), tuple(overrides), str(results.resolve()), save_every)
    at = opened(order, quiet)
    found, run = at.run.recipe, at.run
    console = run.console
    judge = prepared(found, run.prompts) if main else None
    if main:
        run_folders.write_text(run.folder / "recipe.resolved.yaml", recipes.dump(found))
        if fresh:
            _forget(at)
        if retry_failed:
            for name in failures(run.folder, list(at.trials.values())):
                (run.folder / name / FAILED).unlink()
    console.print(says_plan(at), soft_wrap=True, markup=False)
    with placer(placing, order, console) as place:
        place.all([Stage("reference")])
        chosen = search(at, place)
        finals = _finals(at, chosen.settings)
        _train_rest(at, place, finals)
        place.all([Stage("measure", name) for name in (leaderboard.BASE, *(t.name for t in finals))])
    if judge is not None:
        board = _board(at, finals, chosen, judge, console)
        board.write(run.folder)
        board.render(Console())
        if board.more:
            console.print(f"\n{board.more}", markup=False, highlight=False, soft_wrap=True)
        page = write_report(run.folder)
        console.print(f"\nEverything is in {run.folder}; to look at it: {page}", soft_wrap=True)
    trials, ranked = list(at.trials.values()), {t.arm for t in finals}
    failed = failures(run.folder, trials)
    return {t.arm: failed.get(t.name, "no setting finished") for t in trials if t.arm not in ranked}


def run_stage(path: Path, overrides: Sequence[str], results: Path, *, save_every: float, text: str) -> None:
    """One stage of the run alone: what a task of a SLURM array does."""
    checked(path, overrides)
    order = Order(str(path.resolve()), tuple(overrides), str(results.resolve()), save_every)
    at = opened(order)
    what = named(at, text)
    ended = do(order, what)
    leave_process_group()
    if ended != DONE:
        raise UserError(f"{what}: {ended}")
    at.run.console.print(f"{what}: {ended}", soft_wrap=True, markup=False)


def says_plan(at: Opened) -> str:
    """How many trainings, on what, chosen by what."""
    trials = list(at.trials.values())
    counts = sweep.budgets(trials)
    seeds = at.run.recipe.seeds or [at.run.recipe.seed]
    each = f"{next(iter(counts.values()))} settings each" if len(set(counts.values())) == 1 else _counts(counts)
    chosen = f", chosen by {len(at.validation)} validation pairs held out of training" if at.validation else ""
    return f"sweep: {len(counts)} variants, {each}, {len(seeds)} seeds: {len(trials)} trials{chosen}"


def _counts(counts: Mapping[str, int]) -> str:
    return "UNEQUAL settings (" + ", ".join(f"{arm} {n}" for arm, n in counts.items()) + ")"


def _forget(at: Opened) -> None:
    for name in at.trials:
        folder = at.run.folder / name
        run_folders.discard_result(folder)
        shutil.rmtree(folder / RESUME, ignore_errors=True)
        for path in folder.glob("validation*.json"):
            path.unlink()


def search(at: Opened, place: Placer) -> Chosen:
    """Train the trials, and choose by their validation numbers. Nothing of the test split is there to be read."""
    how = sweep.settings_of(at.run.recipe)
    alive = sweep.searched(at.run.recipe, list(at.trials.values()))
    everybody = alive
    stopped: dict[str, int] = {}
    if at.validation and how.early_stopping:
        plan = {t.arm: sweep.rungs(how, steps_of(t.variant.train, len(at.run.pairs))) for t in alive}
        for rung in range(max(len(steps) for steps in plan.values())):
            due = [(t, plan[t.arm][rung]) for t in alive if rung < len(plan[t.arm])]
            place.all([Stage("train", t.name, steps) for t, steps in due])
            scores = _scores(at, {t.name: steps for t, steps in due})
            kept = {t.name for t in sweep.survivors([t for t, _ in due], scores, how.early_stopping.factor)}
            out = {t.name: steps for t, steps in due if t.name not in kept}
            stopped |= out
            alive = [t for t in alive if t.name not in out]
            at.run.console.print(f"rung {rung + 1}: {len(alive)} trials go on, {len(stopped)} are stopped")
    place.all([Stage("train", t.name) for t in alive])
    if not at.validation:
        failed = failures(at.run.folder, alive)
        return Chosen({t.arm: t.setting for t in everybody if t.name not in failed}, {}, stopped)
    scores = _scores(at, dict.fromkeys(t.name for t in alive))
    return Chosen(sweep.choose(everybody, scores), scores, stopped)


def _scores(at: Opened, of: Mapping[str, int | None]) -> dict[str, Score]:
    found = {name: score_of(at, at.trials[name], until) for name, until in of.items()}
    return {name: one for name, one in found.items() if one is not None}


def _finals(at: Opened, settings: Mapping[str, str]) -> list[Trial]:
    if not settings:
        failed = failures(at.run.folder, list(at.trials.values()))
        name, reason = next(iter(failed.items()), ("", "no trial finished"))
        raise UserError(f"no variant can be ranked: every trial failed; {name}: {reason}")
    return [t for t in at.trials.values() if settings.get(t.arm) == t.setting]


def _train_rest(at: Opened, place: Placer, finals: list[Trial]) -> None:
    """The chosen settings with the seeds that the search left out; those that fail are no finals."""
    searched = {t.name for t in sweep.searched(at.run.recipe, finals)}
    place.all([Stage("train", t.name) for t in finals if t.name not in searched])
    failed = failures(at.run.folder, finals)
    finals[:] = [t for t in finals if t.name not in failed]


def _board(at: Opened, finals: list[Trial], chosen: Chosen, judge: Any, console: Console) -> leaderboard.Leaderboard:
    run = at.run
    numbers = {name: _numbers(at, t) for name, t in ((leaderboard.BASE, None), *((t.name, t) for t in finals))}
    numbers = judged(judge, run.prompts, numbers, run.folder, console)
    results = {t.name: run_folders.read_result(run.folder / t.name) for t in finals}
    trained = {name: r for name, r in results.items() if r is not None}
    more = everyone(judge, run.prompts, numbers, run.folder, console, asked=run.recipe.evals.round_robin)
    board = leaderboard.build(numbers, {n: r.costs for n, r in trained.items()}, receipts(run, trained), more)
    seed_of = {t.name: t.seed for t in finals}
    board.long["seed"] = [seed_of.get(v, s) for v, s in zip(board.long.variant, board.long.seed, strict=True)]
    if not sweep.is_sweep(run.recipe):
        return board
    arms = {arm: [t.name for t in finals if t.arm == arm] for arm in dict.fromkeys(t.arm for t in finals)}
    made = over_seeds(board, numbers, arms)
    said = report(at, finals, chosen, numbers, made.primary)
    return replace(made, more="\n".join(part for part in (said, made.more) if part))


def _numbers(at: Opened, trial: Trial | None) -> Measured:
    run = at.run if trial is None else at.final(trial)
    name = leaderboard.BASE if trial is None else trial.name
    found = known(run, name)
    if found is None:
        raise UserError(
            f"{run.folder}: no numbers of {name} although it was measured; --results must be a folder that all "
            "processes share"
        )
    return found


def report(
    at: Opened, finals: Sequence[Trial], chosen: Chosen, numbers: Mapping[str, Measured], primary: str
) -> str:  # fmt: skip
    """How settings were chosen, in Markdown; `sweep.json` says the same for machines."""
    trials = list(at.trials.values())
    failed = failures(at.run.folder, trials)
    counts = sweep.budgets(trials)
    lines = ["## Tuning", "", _statement(at, counts), "", HEAD]
    for arm, count in counts.items():
        names = [t.name for t in finals if t.arm == arm]
        if not names:
            lines.append(f"| {arm} | {count} | none: every setting failed | - | - | - |")
            continue
        values = next(t.values for t in finals if t.arm == arm)
        own = [
            chosen.scores[t.name].accuracy
            for t in trials
            if t.setting == chosen.settings[arm] and t.name in chosen.scores
        ]
        s = spread(numbers, names, primary)
        lines.append(
            f"| {arm} | {count} | {_says(values)} | {_percent(float(np.mean(own)) if own else math.nan)} | "
            f"{_percent(s.seeds)} ({len(names)}) | {_percent(s.prompts)} |"
        )
    lines += ["", *(f"- {name} failed: {reason}" for name, reason in failed.items())]
    if chosen.stopped:
        lines.append(
            f"- {len(chosen.stopped)} of {len(trials)} trials were stopped early, by their variant's own trials."
        )
    run_folders.write_json(at.run.folder / SWEEP, _record(at, finals, chosen, failed))
    return "\n".join(lines).rstrip() + "\n"


HEAD = (
    "| variant | settings tried | chosen | accuracy on validation | standard deviation over seeds (n) | "
    "standard error over prompts |\n|---|---|---|---|---|---|"
)


def _statement(at: Opened, counts: Mapping[str, int]) -> str:
    seeds = at.run.recipe.seeds or [at.run.recipe.seed]
    if not at.validation:
        return f"Nothing was tuned; every variant was trained with {len(seeds)} seeds."
    equal = len(set(counts.values())) == 1
    budget = (
        f"Every variant had the same budget, {next(iter(counts.values()))} settings"
        if equal
        else f"Beware: {_counts(counts)}, which favours whoever has more"
    )
    search = len(seeds[: sweep.settings_of(at.run.recipe).search_seeds])
    return (
        f"{budget}, each trained with {search} of {len(seeds)} seeds. The setting was chosen by the accuracy on "
        f"{len(at.validation)} validation pairs, which nothing was trained on; the table above is of the test split "
        "alone, which no choice saw."
    )


def _record(at: Opened, finals: Sequence[Trial], chosen: Chosen, failed: Mapping[str, str]) -> dict[str, Any]:
    trials = [
        {
            "name": t.name, "variant": t.arm, "values": t.values, "seed": t.seed,
            "validation": asdict(chosen.scores[t.name]) if t.name in chosen.scores else None,
            "stopped_after": chosen.stopped.get(t.name), "failed": failed.get(t.name),
        }
        for t in at.trials.values()
    ]  # fmt: skip
    held = reference_logprobs.rows_key(at.validation) if at.validation else ""
    return {
        "metric": "preference_accuracy", "settings": sweep.budgets(list(at.trials.values())),
        "validation": {"pairs": len(at.validation), "rows": held}, "chosen": chosen.settings,
        "finals": {t.name: t.arm for t in finals}, "sources": _sources(at), "trials": trials,
    }  # fmt: skip


def _sources(at: Opened) -> dict[str, str]:
    """Where ready-made grids come from."""
    return {v.name: a.source for v in at.run.recipe.variants.values() for a in v.axes if a.source}


def _says(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.removeprefix('train.')} {value}" for name, value in values.items()) or "as written"


def _percent(value: float) -> str:
    return "-" if not math.isfinite(value) else f"{100 * value:.1f}%"
