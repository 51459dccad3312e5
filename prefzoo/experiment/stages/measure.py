"""The evaluation stage of `prefzoo run`: every model's numbers, none of them twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console

from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.engine.precision import native_bf16
from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.provenance import Provenance
from prefzoo.evals.generation.generate import generate
from prefzoo.evals.judges.protocol import Answer, PromptRow
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.held_out import on_pairs
from prefzoo.evals.metrics.measure import HeldOut, Measured, measured, run_benchmarks, write_samples
from prefzoo.evals.metrics.registry import all_metrics
from prefzoo.evals.metrics.sampled_kl import kl, sampled
from prefzoo.evals.suites.tasks import suite_key
from prefzoo.experiment.context import Run, logprobs_of
from prefzoo.runtime import run_folders
from prefzoo.runtime.cache import ENGINE, cached_by_prompt, key_of
from prefzoo.runtime.progress import Report, stage
from prefzoo.runtime.versions import version_of
from prefzoo.training.step_metrics import beta_of
from prefzoo.types import LogProbs, VocabLogProbs


def weights_of(run: Run, name: str) -> str:
    """What identifies a model of the run: the base, or a variant by its checkpoint's content."""
    if name == leaderboard.BASE:
        return run.weights
    return key_of([run.weights, models.content_hash(run.folder / name / "checkpoint")])  # an adapter sits on the base


def key(run: Run, name: str) -> str:
    """Hash of all that a model's numbers depend on."""
    evals = run.recipe.evals
    suites = {suite: suite_key(suite, run.recipe.folder) for suite in evals.benchmarks}
    held_out = reference_logprobs.rows_key(run.held_out) if run.held_out else ""
    versions = [ENGINE, reference_logprobs.ENGINE, version_of("transformers"), version_of("lm-eval")]
    return key_of([
        weights_of(run, name), run.weights, run.vocabulary, evals.model_dump(), [asdict(p) for p in run.prompts],
        suites, held_out, run.layout, native_bf16(), versions,
    ])  # fmt: skip


def receipts(run: Run, trained: Mapping[str, run_folders.RunResult]) -> Provenance:
    """Where the run's numbers come from, by name and content."""
    prompts = f"{run.recipe.evals.prompts}@{key_of([asdict(p) for p in run.prompts])}" if run.prompts else ""
    pairs = f"{run.recipe.data.eval}@{reference_logprobs.rows_key(run.held_out)[:16]}" if run.held_out else ""
    return Provenance(
        run.recipe.seed, leaderboard.BASE, prompts, pairs,
        {suite: f"{suite}@{suite_key(suite, run.recipe.folder)}" for suite in run.recipe.evals.benchmarks},
        {name: r.loss for name, r in trained.items()},
        {name: str(r.environment.get("commit") or "") for name, r in trained.items()},
    )  # fmt: skip


def known(run: Run, name: str) -> Measured | None:
    """The numbers on disk, if they are of this model and these settings."""
    try:
        found = json.loads((run.folder / name / "evals.json").read_text(encoding="utf-8"))
        settings, _, content = found.pop("key").partition("-")
        if settings == key(run, name) and content != key_of(found):
            raise ValueError("other numbers than were written")
        return _if_whole(Measured(**found)) if settings == key(run, name) else None
    except OSError:  # mostly: nothing there
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        run.console.print(f"{run.folder / name / 'evals.json'}: broken (not what was written); measured again")
        return None


def _if_whole(measured: Measured) -> Measured | None:
    """None if a metric of the held-out pairs is new since: a package that offers it was installed after the run."""
    wanted = {m.name for m in all_metrics() if m.from_logprobs is not None}
    return None if measured.margins and wanted - measured.pairs.keys() else measured


def complete(run: Run, name: str) -> bool:
    """Whether a model's numbers are known, and none of them is one that could not be had at the time."""
    found = known(run, name)
    return found is not None and not any(b.get("reason") for b in found.benchmarks.values())


def reference_of_held_out(run: Run, base: Base) -> LogProbs:
    """The base's log-probs of the held-out pairs, which every margin is measured from. All processes call this."""
    return logprobs_of(run, base, run.weights, run.held_out, "reference log-probs, held-out pairs", bf16=native_bf16())


def measure(run: Run, name: str, model: Any, base: Any, theirs: LogProbs | None) -> Measured:
    """All numbers of one model, and its answers beside them on disk. `theirs`: of the base, on the held-out pairs."""
    evals, bf16, weights = run.recipe.evals, native_bf16(), weights_of(run, name)
    held_out = HeldOut()
    if theirs is not None and name != leaderboard.BASE:
        with stage(
            f"held-out pairs under {name}", "pairs", run.console, variant=name, activity="held-out pairs"
        ) as report:
            ours = reference_logprobs.logprobs(model, run.held_out, run.layout, VocabLogProbs, bf16=bf16, report=report)
        assert isinstance(ours, VocabLogProbs)
        held_out = on_pairs(ours, theirs, beta_of(run.recipe.variants[name].params))
    model = model.to(torch.bfloat16) if bf16 else model  # nothing is trained from here on
    same = {"weights": weights, "vocabulary": run.vocabulary, "dtype": str(model.dtype)}
    answers = kept_answers(name, model, run.tokenizer, run.prompts, evals.max_new_tokens, same, run.console)
    benchmarks: dict[str, dict[str, Any]] = {}
    for suite in evals.benchmarks:
        with stage(f"{suite} of {name}", "suites", run.console, variant=name, activity=suite):
            benchmarks |= run_benchmarks(model, run.tokenizer, suite, run.recipe.folder, same)
    say_unavailable(benchmarks, run.console)
    kl = _kl(run, name, model, base, same) if name != leaderboard.BASE else []
    found = measured(held_out, run.prompts, answers, Verifier(), benchmarks, kl)
    values = asdict(found)
    write_samples(run.folder / name, found)
    run_folders.write_json(run.folder / name / "evals.json", {"key": f"{key(run, name)}-{key_of(values)}", **values})
    return found


def kept_answers(
    name: str, model: Any, tokenizer: Any, prompts: Sequence[PromptRow], tokens: int, same: dict[str, str],
    console: Console,
) -> list[Answer]:  # fmt: skip
    """A model's answer to each prompt; those of the model that `same` identifies are made once and kept."""
    if not prompts:
        return []
    settings = model.generation_config.to_diff_dict()
    depends = {**same, "max_new_tokens": tokens, "generation": key_of({k: str(v) for k, v in settings.items()})}

    def make(texts: list[str]) -> list[dict[str, Any]]:
        found = generate(model, tokenizer, texts, max_new_tokens=tokens, batch_size=len(texts))
        return [asdict(one) for (one,) in found]

    texts = [row.prompt for row in prompts]
    rows = _by_prompt("answers", name, depends, texts, make, console)
    return [Answer(**row) for row in rows]


def _by_prompt(
    kind: str, name: str, depends: dict[str, Any], texts: list[str], make: Callable[[list[str]], list[Any]],
    console: Console,
) -> list[Any]:  # fmt: skip
    """`cached_by_prompt` under a stage that begins with the first batch that is not kept."""
    with ExitStack() as stages:
        reports: list[Report] = []

        def begun(part: list[str]) -> list[Any]:
            if not reports:
                doing = {"answers": "answers", "kl": "samples"}[kind]
                begun_stage = stage(f"{doing} of {name}", "prompts", console, variant=name, activity=doing)
                reports.append(stages.enter_context(begun_stage))
            return make(part)

        def progress(done: int, total: int) -> None:
            for report in reports:
                report(done, total, "")

        return cached_by_prompt(kind, depends, texts, begun, progress)


def _kl(run: Run, name: str, model: Any, base: Any, same: dict[str, str]) -> list[float]:
    evals = run.recipe.evals
    prompts = [p.prompt for p in run.prompts[: evals.kl]]
    if not prompts:
        return []

    bf16 = native_bf16()
    reference_model = base.to(torch.bfloat16) if bf16 else base  # in one precision, rounding is no divergence

    def make(texts: list[str]) -> list[float]:
        drawn = sampled(model, run.tokenizer, texts, evals.max_new_tokens, run.recipe.seed)
        return kl(model, reference_model, drawn, run.layout, bf16=bf16)

    depends = {
        **same, "base": run.weights, "max_new_tokens": evals.max_new_tokens, "seed": run.recipe.seed,
        "layout": run.layout,
    }  # fmt: skip
    return _by_prompt("kl", name, depends, prompts, make, run.console)


def say_unavailable(benchmarks: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """A line for each benchmark that could not be run."""
    for suite, result in benchmarks.items():
        if result.get("reason"):
            console.print(f"{suite}: unavailable: {result['reason']}", soft_wrap=True, markup=False, highlight=False)
