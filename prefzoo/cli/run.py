"""`prefzoo run`: train every variant, measure all of them and the base, rank them. Disk joins the stages."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from evals import leaderboard
from evals.kept import key_of
from evals.measure import Measured
from evals.prompts import load_prompts
from evals.tasks import check_names
from prefzoo import models, recipe, reference, runs
from prefzoo.checkpoint import Checkpoints
from prefzoo.cli.experiment import Run, logprobs_of
from prefzoo.cli.frontier import snapshots_of, write_frontier
from prefzoo.cli.judging import everyone, judged, prepared
from prefzoo.cli.load import check_variants, tokens_of, unit
from prefzoo.cli.measure import known, measure, receipts, reference_of_held_out
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.job import Job, with_reference
from prefzoo.launch import agreed, leave, processes, share
from prefzoo.logprobs import NOTES, choose_layout
from prefzoo.progress import stage
from prefzoo.recipe import Recipe, Variant
from prefzoo.train import check_trackers, train, use_bf16
from prefzoo.types import LogProbs

RESUME = "resume"  # beside a variant's checkpoint, while it is trained


def run_recipe(path: Path, overrides: Sequence[str], results: Path, *, fresh: bool, save_every: float) -> None:
    """The whole experiment; what is finished is not done again unless `fresh`, what was begun goes on."""
    main = processes().is_main_process
    console = Console(quiet=not main)
    found = recipe.load(path, overrides)
    check_names(found.evals.benchmarks, found.folder)
    check_trackers(found.train.trackers)
    for variant in found.variants.values():
        if variant.train.lora and variant.train.lora.quantize:
            models.check_quantize(f"variants.{variant.name}.train")
    run, base = _prepare(found, results / found.name, console, save_every)
    judge = prepared(found, run.prompts) if main else None
    if main:
        runs.write_text(run.folder / "recipe.resolved.yaml", recipe.dump(found))
    if main and fresh:  # all at once, so that a fresh run that is killed goes on as one
        for name in found.variants:
            runs.forget(run.folder / name)
            shutil.rmtree(run.folder / name / RESUME, ignore_errors=True)
    trained = {name: _train_variant(run, name, base) for name in found.variants}
    theirs = _measure_all(run, base)
    write_frontier(run, base, trained, theirs)
    if judge is not None:
        numbers = judged(judge, run.prompts, _numbers(run), run.folder, console)
        costs = {name: r.costs for name, r in trained.items()}
        more = everyone(judge, run.prompts, numbers, run.folder, console, asked=found.evals.round_robin)
        board = leaderboard.build(numbers, costs, receipts(run, trained), more)
        board.write(run.folder)
        board.render(console)
        console.print(f"\nEverything is in {run.folder}", soft_wrap=True)
    leave()


def _prepare(found: Recipe, folder: Path, console: Console, save_every: float) -> tuple[Run, Any]:
    with stage(f"loading {found.model}", "models", console), processes().main_process_first():
        base, tokenizer = models.load(found.model, found.folder)
        weights, vocabulary = models.fingerprint(base), models.vocabulary(tokenizer)
        base = base.to(processes().device)
    done, schema = tokens_of(found, found.data.train, tokenizer)
    lost = "".join(f", {n} {why}" for why, n in done.counts.items())
    console.print(f"data: {len(done.pairs)} training {unit(done.pairs)} ({schema}){lost}", soft_wrap=True)
    held_out = tokens_of(found, found.data.eval, tokenizer)[0].pairs if found.data.eval else []
    if any(p.label is not None for p in held_out):
        raise UserError(f"data.eval: {found.data.eval} has single labelled answers; held-out data must be pairs")
    prompts = load_prompts(found.evals.prompts, found.folder) if found.evals.prompts else []
    check_variants(found, done.pairs)
    layout = choose_layout(base, [*done.pairs, *held_out])
    if layout in NOTES:
        console.print(NOTES[layout])
    made = Run(
        found, folder, console, tokenizer, weights, vocabulary, done.pairs, held_out, layout, prompts, save_every
    )
    return made, base


def _job(run: Run, variant: Variant, base: Any, weights: str, *, bf16: bool) -> Job:
    recipe = run.recipe
    job = Job(variant.loss_obj, variant.params, variant.train, recipe.seed, run.pairs, run.layout, bf16)
    seen = {i for v in recipe.variants.values() for step in replace(job, train=v.train).steps for i in step}

    def frozen(pairs: list[TokenPair], what: str, kind: type[LogProbs]) -> LogProbs:
        return logprobs_of(run, base, weights, pairs, f"reference log-probs, {what}", kind, bf16=bf16)

    return with_reference(job, base, frozen, also=sorted(seen))


def _train_variant(run: Run, name: str, base: Any) -> runs.RunResult:
    variant = run.recipe.variants[name]
    bf16, folder = use_bf16(variant.train), run.folder / name
    settings: dict[str, Any] = {
        "loss": variant.loss,
        "params": variant.params.model_dump(),
        "train": variant.train.model_dump(exclude={"trackers"}),
    }
    key = key_of([settings, run.recipe.seed, run.weights, reference.rows_key(run.pairs), reference.ENGINE, bf16])
    main = processes().is_main_process
    checkpoints = Checkpoints(folder / RESUME, key, run.save_every, run.console.print)
    before = agreed(runs.finished(folder, key))
    if before is not None:
        if main:
            checkpoints.remove()
        run.console.print(f"{name}: already trained with these settings; kept")
        return before
    if main:
        runs.forget(folder)
        if not checkpoints.folder.is_dir():  # else it goes on, with what was taken before
            snapshots_of(run, name).remove()
    lora, weights = variant.train.lora, run.weights
    quantize = lora.quantize if lora else None
    if quantize:  # the reference is what training starts from: the same model, adapter off
        base, weights = _load(run, quantize), f"{run.weights}-{quantize}"
    job = _job(run, variant, base, weights, bf16=bf16)
    model = _load(run, quantize)
    if lora:
        model = models.add_lora(model, **lora.model_dump(exclude={"quantize"}), seed=run.recipe.seed)
    with stage(f"training {name}", "pairs", run.console) as report:
        metrics, costs = train(job, model, folder / "metrics.jsonl", report, checkpoints, snapshots_of(run, name))
    models.save(model, run.tokenizer, folder / "checkpoint", main=main)
    result = runs.RunResult(
        name, variant.loss, settings["params"], settings["train"], run.recipe.seed, key, metrics, costs,
        runs.environment() | {"processes": processes().num_processes},
    )  # fmt: skip
    if main:
        result.write(folder)
        checkpoints.remove()
    processes().wait_for_everyone()
    return result


def _load(run: Run, quantize: str | None) -> Any:
    return models.load(run.recipe.model, run.recipe.folder, quantize=quantize)[0]


def _measure_all(run: Run, base: Any) -> LogProbs | None:
    """Every process measures some of the models, alone; what they find is on disk when all are done.

    Returns the base's log-probs of the held-out pairs.
    """
    names = [leaderboard.BASE, *run.recipe.variants]
    todo = agreed([name for name in names if known(run, name) is None])
    for name in names:
        if name not in todo:
            run.console.print(f"{name}: already measured with these settings; kept")
    wanted = todo or run.recipe.evals.frontier
    theirs = reference_of_held_out(run, base) if wanted and run.held_out else None
    for name in share(todo):
        model = base
        if name != leaderboard.BASE:
            model = models.load(str((run.folder / name / "checkpoint").resolve()), Path())[0].to(base.device)
        measure(run, name, model, base, theirs)
    processes().wait_for_everyone()
    return theirs


def _numbers(run: Run) -> dict[str, Measured]:
    """What all processes found, from disk."""
    found = {name: known(run, name) for name in (leaderboard.BASE, *run.recipe.variants)}
    missing = [name for name, numbers in found.items() if numbers is None]
    if missing:
        raise UserError(
            f"{run.folder}: no numbers of {', '.join(missing)} although they were measured; "
            "--results must be a folder that all processes share"
        )
    return {name: numbers for name, numbers in found.items() if numbers is not None}
