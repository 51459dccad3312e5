"""`prefzoo run`: train every variant, measure all of them and the base, rank them. Disk joins the stages."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from prefzoo.data.tokens import TokenPair, only_pairs
from prefzoo.engine import models
from prefzoo.engine.base_model import Base
from prefzoo.engine.logprobs import NOTES, choose_layout
from prefzoo.engine.precision import native_bf16, use_bf16
from prefzoo.errors import UserError
from prefzoo.evals.boards import leaderboard
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.suites.prompts import load_prompts
from prefzoo.evals.suites.tasks import check_names
from prefzoo.experiment.context import Run
from prefzoo.experiment.data import audited, check_variants, unit
from prefzoo.experiment.stages.frontier import write_frontier
from prefzoo.experiment.stages.judge import everyone, judged, prepared
from prefzoo.experiment.stages.measure import complete, known, measure, receipts, reference_of_held_out
from prefzoo.experiment.stages.report import write_cards, write_report
from prefzoo.experiment.stages.train import RESUME, train_all
from prefzoo.recipe import load
from prefzoo.recipe.load import Recipe
from prefzoo.runtime import atomic_files, run_folders
from prefzoo.runtime.distributed import broadcast, leave_process_group, process_state, shard
from prefzoo.runtime.live_view import Row, show_live_view
from prefzoo.runtime.locking import run_lock
from prefzoo.runtime.progress import set_variant_state, stage
from prefzoo.training.accelerators import check_trackers
from prefzoo.training.job import steps_of
from prefzoo.training.oom_retry import memory_notes
from prefzoo.types import LogProbs


def checked(path: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe, with what this machine can and cannot do checked."""
    found = load.load(path, overrides)
    check_names(found.evals.benchmarks, found.folder)
    check_trackers(found.train.trackers)
    for variant in found.variants.values():
        if variant.train.lora and variant.train.lora.quantize:
            models.check_quantize(f"variants.{variant.name}.train")
    return found


def run_recipe(
    path: Path, overrides: Sequence[str], results: Path, *, fresh: bool, save_every: float,
    retry_failed: bool = False, quiet: bool = False,
) -> tuple[Path, dict[str, run_folders.Failure]]:  # fmt: skip
    """The whole experiment; what is finished is not done again unless `fresh`, what was begun goes on.

    Returns the run's folder, and the variants that failed.
    """
    main = process_state().is_main_process
    console = Console(quiet=quiet or not main)
    found = checked(path, overrides)
    with run_lock(results / found.name):
        failed = _run(
            found, results / found.name, console, fresh=fresh, save_every=save_every, retry_failed=retry_failed
        )
    leave_process_group()
    return results / found.name, failed


def _run(
    found: Recipe, folder: Path, console: Console, *, fresh: bool, save_every: float, retry_failed: bool
) -> dict[str, run_folders.Failure]:
    main = process_state().is_main_process
    for name in (leaderboard.BASE, *found.variants):
        atomic_files.resolve_inside(folder, name)
    run, base, audits = prepare(found, folder, console, save_every)
    judge = prepared(found, run.prompts) if main else None
    if main:
        run_folders.write_text(run.folder / "recipe.resolved.yaml", load.dump(found))
        run_folders.write_json(run.folder / "data_audit.json", audits)
    if main and fresh:  # all at once, so that a fresh run that is killed goes on as one
        for name in found.variants:
            run_folders.discard_result(run.folder / name)
            shutil.rmtree(run.folder / name / RESUME, ignore_errors=True)
    with show_live_view(f"{found.name} · {found.model}", _rows(run), console):
        ended = train_all(run, base, retry_failed=retry_failed)
        trained = {name: r for name, r in ended.items() if isinstance(r, run_folders.RunResult)}
        failed = {name: r for name, r in ended.items() if isinstance(r, run_folders.Failure)}
        theirs = _measure_all(run, base, [leaderboard.BASE, *trained])
        write_frontier(run, base, trained, theirs)
        if judge is not None:
            numbers = judged(judge, run.prompts, _numbers(run, trained), run.folder, console)
            more = everyone(judge, run.prompts, numbers, run.folder, console, asked=found.evals.round_robin)
            for name in numbers:
                set_variant_state(name, "done", console)
    if judge is not None:
        costs = {name: r.costs for name, r in trained.items()}
        more += memory_notes(costs)
        board = leaderboard.build(numbers, costs, receipts(run, trained), more)
        board = replace(board, failed={name: f"step {f.step}: {f.reason}" for name, f in failed.items()})
        board.write(run.folder)
        write_cards(run, trained, board)
        board.render(Console())
        page = write_report(run.folder)
        console.print(f"\nEverything is in {run.folder}; to look at it: {page}", soft_wrap=True)
    return failed


def _rows(run: Run) -> list[Row]:
    """Of the live view."""
    how = {name: variant.train for name, variant in run.recipe.variants.items()}
    return [Row(leaderboard.BASE), *(Row(name, steps_of(t, len(run.pairs)), t.batch) for name, t in how.items())]


def prepare(found: Recipe, folder: Path, console: Console, save_every: float) -> tuple[Run, Base, dict[str, Any]]:
    """The run, read and loaded, the base model, and the data's audit; what is wrong with data and losses is said."""
    with stage(f"loading {found.model}", "models", console), process_state().main_process_first():
        loaded, tokenizer = models.load(found.model, found.folder, trust=found.trust_remote_code)
        weights, vocabulary = models.fingerprint(loaded), models.tokenizer_hash(tokenizer)
        loaded = loaded.to(process_state().device)
    done, audit = audited(found, found.data.train, tokenizer)
    audits = {"train": asdict(audit)}
    lost = "".join(f", {n} {why}" for why, n in done.counts.items())
    console.print(f"data: {len(done.examples)} training {unit(done.examples)} ({audit.schema}){lost}", soft_wrap=True)
    held_out: list[TokenPair] = []
    if found.data.eval:
        held, audit = audited(found, found.data.eval, tokenizer)
        fault = f"data.eval: {found.data.eval} has single labelled answers; held-out data must be pairs"
        held_out, audits["eval"] = only_pairs(held.examples, fault), asdict(audit)
    prompts = load_prompts(found.evals.prompts, found.folder) if found.evals.prompts else []
    check_variants(found, done.examples)
    layout = choose_layout(loaded, [*done.examples, *held_out])
    if layout in NOTES:
        console.print(NOTES[layout])
    made = Run(
        found, folder, console, tokenizer, weights, vocabulary, done.examples, held_out, layout, prompts, save_every
    )
    base = Base(
        lambda: models.load(found.model, found.folder, trust=found.trust_remote_code)[0], frozen_bf16=_lean(found),
        loaded=loaded,
    )  # fmt: skip
    return made, base, audits


def _lean(found: Recipe) -> bool:
    """Whether the base is read under autocast to bf16 alone, and followed by no copy that moves in small steps."""
    trains = [v.train for v in found.variants.values()]
    return native_bf16() and all(use_bf16(t) and t.sync_reference is None for t in trains)


def _measure_all(run: Run, base: Base, names: Sequence[str]) -> LogProbs | None:
    """Every process measures some of the models, alone; what they find is on disk when all are done.

    Returns the base's log-probs of the held-out pairs.
    """
    todo = broadcast([name for name in names if not complete(run, name)])
    for name in names:
        if name not in todo:
            set_variant_state(name, "measured", run.console, f"{name}: already measured with these settings; kept")
    wanted = todo or run.recipe.evals.frontier
    theirs = reference_of_held_out(run, base) if wanted and run.held_out else None
    for name in shard(todo):
        model = base.model
        if name != leaderboard.BASE:
            place = str((run.folder / name / "checkpoint").resolve())
            model = models.load(place, Path(), trust=run.recipe.trust_remote_code)[0].to(process_state().device)
        measure(run, name, model, base.model, theirs)
        set_variant_state(name, "measured", run.console)
    process_state().wait_for_everyone()
    return theirs


def _numbers(run: Run, trained: Iterable[str]) -> dict[str, Measured]:
    """What all processes found, from disk."""
    found = {name: known(run, name) for name in (leaderboard.BASE, *trained)}
    missing = [name for name, numbers in found.items() if numbers is None]
    if missing:
        raise UserError(
            f"{run.folder}: no numbers of {', '.join(missing)} although they were measured; "
            "--results must be a folder that all processes share"
        )
    return {name: numbers for name, numbers in found.items() if numbers is not None}
