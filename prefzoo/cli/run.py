"""`prefzoo run`: train every variant, measure all of them and the base, rank them. Disk joins the stages."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from evals import leaderboard
from evals.benchmarks import check_names
from evals.kept import key_of
from evals.measure import Measured
from evals.prompts import load_prompts
from prefzoo import models, recipe, reference, runs
from prefzoo.checkpoint import Checkpoints
from prefzoo.cli.experiment import Run, logprobs_of
from prefzoo.cli.load import tokens_of
from prefzoo.cli.measure import known, measure
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.feed import check_fit
from prefzoo.job import Job, with_reference
from prefzoo.logprobs import can_share
from prefzoo.progress import stage
from prefzoo.recipe import Recipe, Variant
from prefzoo.train import check_trackers, train, use_bf16
from prefzoo.types import LogProbs

RESUME = "resume"  # beside a variant's checkpoint, while it is trained


def run_recipe(path: Path, overrides: Sequence[str], results: Path, *, fresh: bool, save_every: float) -> None:
    """The whole experiment; what is finished is not done again unless `fresh`, what was begun goes on."""
    console = Console()
    found = recipe.load(path, overrides)
    check_names(found.evals.benchmarks)
    check_trackers(found.train.trackers)
    run, base = _prepare(found, results / found.name, console, save_every)
    runs.write_text(run.folder / "recipe.resolved.yaml", recipe.dump(found))
    if fresh:  # all at once, so that a fresh run that is killed goes on as one
        for name in found.variants:
            runs.forget(run.folder / name)
            shutil.rmtree(run.folder / name / RESUME, ignore_errors=True)
    trained = {name: _train_variant(run, name, base) for name in found.variants}
    numbers = {name: _measured(run, name, base) for name in (leaderboard.BASE, *found.variants)}
    board = leaderboard.build(numbers, {name: r.costs for name, r in trained.items()})
    board.write(run.folder)
    board.render(console)
    console.print(f"\nEverything is in {run.folder}", soft_wrap=True)


def _prepare(found: Recipe, folder: Path, console: Console, save_every: float) -> tuple[Run, Any]:
    with stage(f"loading {found.model}", "models", console):
        base, tokenizer = models.load(found.model, found.folder)
        weights, vocabulary = models.fingerprint(base), models.vocabulary(tokenizer)
        if torch.cuda.is_available():
            base = base.to("cuda")
    done, schema = tokens_of(found, found.data.train, tokenizer)
    lost = "".join(f", {n} {why}" for why, n in done.counts.items())
    console.print(f"data: {len(done.pairs)} training pairs ({schema}){lost}", soft_wrap=True)
    held_out = tokens_of(found, found.data.eval, tokenizer)[0].pairs if found.data.eval else []
    if any(p.label is not None for p in held_out):
        raise UserError(f"data.eval: {found.data.eval} has single labelled answers; held-out data must be pairs")
    prompts = load_prompts(found.evals.prompts, found.folder) if found.evals.prompts else []
    for name, variant in found.variants.items():
        check_fit(variant.loss_obj, done.pairs, variant.train.batch, f"variants.{name}")
    shared = can_share(base, [*done.pairs, *held_out])
    if not shared:
        console.print("this architecture cannot share a prompt between two answers exactly: each gets its own row")
    made = Run(
        found, folder, console, tokenizer, weights, vocabulary, done.pairs, held_out, shared, prompts, save_every
    )
    return made, base


def _job(run: Run, variant: Variant, base: Any, *, bf16: bool) -> Job:
    recipe = run.recipe
    job = Job(variant.loss_obj, variant.params, variant.train, recipe.seed, run.pairs, run.shared, bf16)
    seen = {i for v in recipe.variants.values() for step in replace(job, train=v.train).steps for i in step}

    def frozen(pairs: list[TokenPair], what: str, kind: type[LogProbs]) -> LogProbs:
        return logprobs_of(run, base, run.weights, pairs, f"reference log-probs, {what}", kind, bf16=bf16)

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
    checkpoints = Checkpoints(folder / RESUME, key, run.save_every, run.console.print)
    before = runs.read_result(folder)
    if before is not None and before.key == key and runs.has_checkpoint(folder):
        checkpoints.remove()
        run.console.print(f"{name}: already trained with these settings; kept")
        return before
    runs.forget(folder)
    job = _job(run, variant, base, bf16=bf16)
    model, _ = models.load(run.recipe.model, run.recipe.folder)
    lora = variant.train.lora
    if lora:
        model = models.add_lora(model, **lora.model_dump(), seed=run.recipe.seed)
    with stage(f"training {name}", "pairs", run.console) as report:
        metrics, costs = train(job, model, folder / "metrics.jsonl", report, checkpoints)
    models.save(model, run.tokenizer, folder / "checkpoint")
    result = runs.RunResult(
        name, variant.loss, settings["params"], settings["train"], run.recipe.seed, key, metrics, costs,
        runs.environment(),
    )  # fmt: skip
    result.write(folder)
    checkpoints.remove()
    return result


def _measured(run: Run, name: str, base: Any) -> Measured:
    found = known(run, name)
    if found is not None:
        run.console.print(f"{name}: already measured with these settings; kept")
        return found

    def load() -> Any:
        if name == leaderboard.BASE:
            return base
        return models.load(str((run.folder / name / "checkpoint").resolve()), Path())[0].to(base.device)

    return measure(run, name, load, base)
