"""`prefzoo run`: train every variant, measure all of them and the base, rank them. Disk joins the stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from evals import leaderboard
from evals.benchmarks import check_names
from evals.judges.protocol import Answer, PromptRow
from evals.judges.verifier import Verifier
from evals.measure import Measured, answer_all, measured, preference_margins, run_benchmarks
from evals.prompts import load_prompts
from prefzoo import models, recipe, reference, runs
from prefzoo.cli.judging import judged, prepared
from prefzoo.cli.load import check_variants, tokens_of, unit
from prefzoo.data.batches import Layout
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.job import Job, with_reference
from prefzoo.logprobs import NOTES, choose_layout
from prefzoo.progress import stage
from prefzoo.recipe import Recipe, Variant
from prefzoo.train import check_trackers, native_bf16, train, use_bf16
from prefzoo.types import LogProbs


@dataclass(frozen=True)
class Run:
    """What all stages share."""

    recipe: Recipe
    folder: Path
    console: Console
    tokenizer: Any
    weights: str
    pairs: list[TokenPair]
    held_out: list[TokenPair]
    layout: Layout
    prompts: list[PromptRow]


def run_recipe(path: Path, overrides: Sequence[str], results: Path, *, fresh: bool) -> None:
    """The whole experiment; finished variants are not trained again unless `fresh`."""
    console = Console()
    found = recipe.load(path, overrides)
    check_names(found.evals.benchmarks)
    check_trackers(found.train.trackers)
    run, base = _prepare(found, results / found.name, console)
    judge = prepared(found, run.prompts)
    runs.write_text(run.folder / "recipe.resolved.yaml", recipe.dump(found))
    trained = {name: _train_variant(run, name, base, fresh=fresh) for name in found.variants}
    numbers = {leaderboard.BASE: _measure(run, leaderboard.BASE, base)}
    for name in found.variants:
        model, _ = models.load(str((run.folder / name / "checkpoint").resolve()), Path())
        numbers[name] = _measure(run, name, model.to(base.device))
    numbers = judged(judge, run.prompts, numbers, run.folder, console)
    board = leaderboard.build(numbers, {name: r.costs for name, r in trained.items()})
    board.write(run.folder)
    board.render(console)
    console.print(f"\nEverything is in {run.folder}", soft_wrap=True)


def _prepare(found: Recipe, folder: Path, console: Console) -> tuple[Run, Any]:
    with stage(f"loading {found.model}", "models", console):
        base, tokenizer = models.load(found.model, found.folder)
        weights = models.fingerprint(base)
        if torch.cuda.is_available():
            base = base.to("cuda")
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
    return Run(found, folder, console, tokenizer, weights, done.pairs, held_out, layout, prompts), base


def _reference(
    run: Run, base: Any, pairs: list[TokenPair], what: str, kind: type[LogProbs] = LogProbs, *, bf16: bool
) -> LogProbs:
    file = reference.cache_file(run.weights, pairs, kind, run.layout, bf16=bf16)
    cached = reference.read(file, kind)
    if cached is not None:
        return cached
    with stage(f"reference log-probs, {what}", "pairs", run.console) as report:
        values = reference.logprobs(base, pairs, run.layout, kind, bf16=bf16, report=report)
    reference.write(file, values)
    return values


def _job(run: Run, variant: Variant, base: Any, *, bf16: bool) -> Job:
    recipe = run.recipe
    job = Job(variant.loss_obj, variant.params, variant.train, recipe.seed, run.pairs, run.layout, bf16)
    seen = {i for v in recipe.variants.values() for step in replace(job, train=v.train).steps for i in step}

    def frozen(pairs: list[TokenPair], what: str, kind: type[LogProbs]) -> LogProbs:
        return _reference(run, base, pairs, what, kind, bf16=bf16)

    return with_reference(job, base, frozen, also=sorted(seen))


def _train_variant(run: Run, name: str, base: Any, *, fresh: bool) -> runs.RunResult:
    variant = run.recipe.variants[name]
    bf16, folder = use_bf16(variant.train), run.folder / name
    settings: dict[str, Any] = {
        "loss": variant.loss,
        "params": variant.params.model_dump(),
        "train": variant.train.model_dump(exclude={"trackers"}),
    }
    key = _key(settings, run.recipe.seed, run.weights, reference.rows_key(run.pairs), reference.ENGINE, bf16)
    before = runs.read_result(folder)
    if before is not None and before.key == key and runs.has_checkpoint(folder) and not fresh:
        run.console.print(f"{name}: already trained with these settings; kept")
        return before
    job = _job(run, variant, base, bf16=bf16)
    model, _ = models.load(run.recipe.model, run.recipe.folder)
    lora = variant.train.lora
    if lora:
        model = models.add_lora(model, **lora.model_dump(), seed=run.recipe.seed)
    with stage(f"training {name}", "pairs", run.console) as report:
        metrics, costs = train(job, model, folder / "metrics.jsonl", report)
    models.save(model, run.tokenizer, folder / "checkpoint")
    result = runs.RunResult(
        name, variant.loss, settings["params"], settings["train"], run.recipe.seed, key, metrics, costs,
        runs.environment(),
    )  # fmt: skip
    result.write(folder)
    return result


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _measure(run: Run, name: str, model: Any) -> Measured:
    """All numbers of one model, and its answers beside them on disk."""
    evals, bf16 = run.recipe.evals, native_bf16()
    margins: list[float] = []
    if run.held_out and name != leaderboard.BASE:
        with stage(f"held-out pairs under {name}", "pairs", run.console) as report:
            policy = reference.logprobs(model, run.held_out, run.layout, bf16=bf16, report=report)
        margins = preference_margins(policy, _reference_of_held_out(run))
    elif run.held_out:
        _reference(run, model, run.held_out, "held-out pairs", bf16=bf16)
    answers: list[Answer] = []
    model = model.to(torch.bfloat16) if bf16 else model  # nothing is trained from here on
    if run.prompts:
        with stage(f"answers of {name}", "prompts", run.console) as report:
            answers = answer_all(
                model, run.tokenizer, run.prompts, evals.max_new_tokens, lambda done, total: report(done, total, "")
            )
    benchmarks: dict[str, dict[str, float]] = {}
    if evals.benchmarks:
        with stage(f"benchmarks of {name}", "suites", run.console):
            benchmarks = run_benchmarks(model, run.tokenizer, evals.benchmarks)
    found = measured(margins, run.prompts, answers, Verifier(), benchmarks)
    runs.write_json(run.folder / name / "evals.json", asdict(found))
    return found


def _reference_of_held_out(run: Run) -> LogProbs:
    """The base is measured first, so its log-probs are on disk."""
    file = reference.cache_file(run.weights, run.held_out, LogProbs, run.layout, bf16=native_bf16())
    found = reference.read(file, LogProbs)
    assert found is not None
    return found
