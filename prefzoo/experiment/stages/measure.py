"""The measure stage: every number of a model, none of them twice. `evals.json` is keyed by all that it depends on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from enum import Enum
from functools import partial
from typing import Any

import torch
from rich.console import Console

from prefzoo.data.chat import with_variables
from prefzoo.data.examples import Text
from prefzoo.engine import model_copies, reference_logprobs
from prefzoo.engine.precision import native_bf16
from prefzoo.errors import UserError
from prefzoo.evals.generation.batches import prompts_together
from prefzoo.evals.generation.generate import generate
from prefzoo.evals.judges.protocol import Answer, Progress, PromptRow
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.held_out import has_all_metrics, on_pairs
from prefzoo.evals.metrics.measure import HeldOut, Measured, measured, run_benchmarks, write_samples
from prefzoo.evals.metrics.sampled_kl import kl, sampled
from prefzoo.evals.suites.tasks import suite_key
from prefzoo.experiment.base_logprobs import base_on_held_out
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.stages.engines import Given, answers_by_engine
from prefzoo.experiment.stages.stage import Done, Result
from prefzoo.experiment.work_names import answering, benchmarking, scoring, tokens_of
from prefzoo.runtime import run_folders
from prefzoo.runtime.cache import ENGINE, cached_by_prompt, key_of
from prefzoo.runtime.distributed import broadcast, process_state, shard
from prefzoo.runtime.measuring_time import timed
from prefzoo.runtime.progress import Report, set_variant_state, stage
from prefzoo.runtime.rates import Rates
from prefzoo.runtime.run_folders import BASE
from prefzoo.runtime.versions import version_of
from prefzoo.training.step_metrics import beta_of
from prefzoo.types import LogProbs, VocabLogProbs

MEASURED = "measured"


def measure_models(experiment: Experiment, names: Sequence[str]) -> dict[str, Result]:
    """Measure the base or trials, unless their numbers are on disk. All processes call this; each takes some models.

    Args:
        experiment: what the models are of.
        names: `base`, and trials that are trained.

    Returns:
        How it ended, by name.
    """
    todo = broadcast([name for name in names if not is_complete(experiment, name)])
    for name in names:
        if name not in todo:
            line = f"{name}: already measured with these settings; kept"
            set_variant_state(name, MEASURED, experiment.console, line)
    given = answers_by_engine(experiment, {name: weights_of(experiment, name) for name in shard(todo)})
    base = base_on_held_out(experiment) if todo and experiment.held_out else None
    for name in shard(todo):
        model = experiment.base.model if name == BASE else experiment.load_trained(name)
        measure_model(experiment, name, model, base, given.get(name))
        set_variant_state(name, MEASURED, experiment.console)
    process_state().wait_for_everyone()
    experiment.base.drop()  # its precision may have been lowered, and trainings may follow
    return {name: Done(kept=name not in todo) for name in names}


def measure_model(experiment: Experiment, name: str, model: Any, base: LogProbs | None, given: Given = None) -> None:
    """Measure one model, and write its numbers and its answers.

    Args:
        experiment: what the model is of.
        name: `base`, or a trial.
        model: its weights; where the machine has bf16 they are in bf16 afterwards.
        base: the base's log-probs of the held-out pairs, in nats; None without such pairs.
        given: its answers to the prompts; None: it is asked.
    """
    evals, bf16, folder = experiment.recipe.evals, native_bf16(), experiment.folder / name
    held_out = HeldOut()
    if base is not None and name != BASE:
        title = f"held-out pairs under {name}"
        with (
            stage(title, "pairs", experiment.console, variant=name, activity="held-out pairs") as report,
            timed(folder, "pairs", len(experiment.held_out)),
            experiment.rates.timed(scoring(VocabLogProbs, bf16=bf16), tokens_of(experiment.held_out)),
        ):
            policy = reference_logprobs.logprobs(
                model, experiment.held_out, experiment.layout, VocabLogProbs, bf16=bf16, report=report
            )
        assert isinstance(policy, VocabLogProbs)
        held_out = on_pairs(policy, base, beta_of(experiment.trials[name].variant.params))
    model = model.to(torch.bfloat16) if bf16 else model  # nothing is trained from here on
    same = {"weights": weights_of(experiment, name), "vocabulary": experiment.vocabulary, "dtype": str(model.dtype)}
    with timed(folder, "answers", len(experiment.prompts)) if given is None else nullcontext():
        answers = given or cached_answers(
            name, model, experiment.tokenizer, experiment.prompts, evals.max_new_tokens, same, experiment.console,
            experiment.recipe.data.chat_template_kwargs, experiment.rates,
        )  # fmt: skip
    benchmarks, variables = dict[str, dict[str, Any]](), experiment.recipe.data.chat_template_kwargs
    tokenizer, seen = with_variables(experiment.tokenizer, variables, "data"), same | _of_template(variables)
    for suite in evals.benchmarks:
        title = f"{suite} of {name}"
        with stage(title, "suites", experiment.console, variant=name, activity=suite), timed(folder, suite, 1):
            work = benchmarking(suite, experiment.recipe.folder)
            took = partial(experiment.rates.record, work, units=1)
            benchmarks |= run_benchmarks(model, tokenizer, suite, experiment.recipe.folder, seen, took)
    report_unavailable(benchmarks, experiment.console)
    with timed(folder, "samples", 1):
        divergence = _kl(experiment, name, model, same) if name != BASE else []
    numbers = measured(held_out, experiment.prompts, answers, Verifier(), benchmarks, divergence)
    numbers = replace(numbers, sources=experiment.held_out_sources if numbers.margins else [])
    values = asdict(numbers)
    write_samples(experiment.folder / name, numbers)
    key = f"{_key(experiment, name)}-{key_of(values)}"
    run_folders.write_json(experiment.folder / name / "evals.json", {"key": key, **values})


def read_numbers(experiment: Experiment, names: Sequence[str]) -> dict[str, Measured]:
    """Return the numbers of models that were measured, by whichever process.

    Raises:
        UserError: some are not on disk.
    """
    numbers = {name: _known(experiment, name) for name in names}
    missing = [name for name, one in numbers.items() if one is None]
    if missing:
        raise UserError(
            f"{experiment.folder}: no numbers of {', '.join(missing)} although they were measured; "
            "--results must be a folder that all processes share"
        )
    return {name: one for name, one in numbers.items() if one is not None}


def is_complete(experiment: Experiment, name: str) -> bool:
    """Return whether a model's numbers are on disk, and no benchmark among them was unavailable at the time."""
    numbers = _known(experiment, name)
    return numbers is not None and not any(b.get("reason") for b in numbers.benchmarks.values())


class Numbers(Enum):
    """What `evals.json` of a model holds: nothing, numbers of the present settings, or of others."""

    ABSENT = "absent"
    SAME = "same"
    OTHER = "other"


def state_of_numbers(experiment: Experiment, name: str) -> Numbers:
    """Return whether a model's numbers on disk are of the present settings. Nothing is verified beyond that."""
    try:
        values = json.loads((experiment.folder / name / "evals.json").read_text(encoding="utf-8"))
        settings = values["key"].partition("-")[0]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Numbers.ABSENT
    return Numbers.SAME if settings == _key(experiment, name) else Numbers.OTHER


def weights_of(experiment: Experiment, name: str) -> str:
    """Return the hash that identifies the weights of the base or of a trial's checkpoint."""
    if name == BASE:
        return experiment.weights
    folder = experiment.folder / name
    result = run_folders.read_result(folder) if run_folders.why_removed(folder) else None
    checkpoint = model_copies.content_hash(folder / "checkpoint") if result is None else result.weights
    return key_of([experiment.weights, checkpoint])  # an adapter sits on the base


def _key(experiment: Experiment, name: str) -> str:
    """Return the hash of all that a model's numbers depend on."""
    evals, folder = experiment.recipe.evals, experiment.recipe.folder
    suites = {suite: suite_key(suite, folder) for suite in evals.benchmarks}
    held_out = reference_logprobs.rows_key(experiment.held_out) if experiment.held_out else ""
    variables = _of_template(experiment.recipe.data.chat_template_kwargs)
    with_them = list(variables.values()) * (2 if suites else 1)  # once benchmarks did not see them
    versions = [ENGINE, reference_logprobs.ENGINE, version_of("transformers"), version_of("lm-eval")]
    return key_of([
        weights_of(experiment, name), experiment.weights, experiment.vocabulary, evals.identity,
        [asdict(p) for p in experiment.prompts], suites, held_out, experiment.layout, native_bf16(), versions,
        *with_them, *experiment.held_out_sources,
    ])  # fmt: skip


def _known(experiment: Experiment, name: str) -> Measured | None:
    """Return the numbers on disk, if they are of this model and these settings."""
    path = experiment.folder / name / "evals.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        settings, _, content = values.pop("key").partition("-")
        if settings != _key(experiment, name):
            return None
        if content != key_of(values):
            raise ValueError("other numbers than were written")
        stored = Measured(**values)
        return stored if has_all_metrics(stored) else None
    except OSError:  # mostly: nothing there
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        experiment.console.print(f"{path}: broken (not what was written); measured again")
        return None


def cached_answers(
    name: str, model: Any, tokenizer: Any, prompts: Sequence[PromptRow], tokens: int, same: dict[str, str],
    console: Console, variables: Mapping[str, Any] | None = None, rates: Rates | None = None,
) -> list[Answer]:  # fmt: skip
    """Return a model's answer to each prompt; each is generated once, and then cached.

    Args:
        name: of the model, for the progress display.
        model, tokenizer: what answers.
        prompts: P rows.
        tokens: the most that an answer has.
        same: what identifies the model: hashes of weights and vocabulary, and the data type.
        console: where progress goes.
        variables: of the chat template.
        rates: remembers how long answers took.

    Returns:
        P answers.
    """
    if not prompts:
        return []
    settings = model.generation_config.to_diff_dict()
    depends = {**same, "max_new_tokens": tokens, "generation": key_of({k: str(v) for k, v in settings.items()})}
    depends |= _of_template(variables)

    def make(texts: list[Text], progress: Progress) -> list[dict[str, Any]]:
        with rates.timed(answering(len(prompts), tokens), len(texts) * tokens) if rates else nullcontext():
            generated = generate(model, tokenizer, texts, max_new_tokens=tokens, progress=progress, variables=variables)
        return [asdict(answer) for (answer,) in generated]

    texts = [row.prompt for row in prompts]
    rows = _by_prompt("answers", name, depends, texts, make, console, prompts_together(model.device))
    return [Answer(**row) for row in rows]


def _of_template(variables: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what an answer depends on besides the model; nothing without variables, so that older caches hold."""
    return {"chat_template_kwargs": key_of(dict(variables))} if variables else {}


def _by_prompt(
    kind: str, name: str, depends: dict[str, Any], texts: list[Text],
    make: Callable[[list[Text], Progress], list[Any]], console: Console, together: int,
) -> list[Any]:  # fmt: skip
    """Call `cached_by_prompt` under a stage that begins with the first batch that is not cached."""
    with ExitStack() as stages:
        reports: list[Report] = []
        finished = 0

        def begun(part: list[Text]) -> list[Any]:
            if not reports:
                activity = {"answers": "answers", "kl": "samples"}[kind]
                begun_stage = stage(f"{activity} of {name}", "prompts", console, variant=name, activity=activity)
                reports.append(stages.enter_context(begun_stage))
            return make(part, lambda done, _: reports[0](finished + done, len(texts), ""))

        def progress(done: int, total: int) -> None:
            nonlocal finished
            finished = done
            for report in reports:
                report(done, total, "")

        return cached_by_prompt(kind, depends, texts, begun, progress, together=together)


def _kl(experiment: Experiment, name: str, model: Any, same: dict[str, str]) -> list[float]:
    evals, seed = experiment.recipe.evals, experiment.trials[name].seed
    variables = experiment.recipe.data.chat_template_kwargs
    prompts = [p.prompt for p in experiment.prompts[: evals.kl]]
    if not prompts:
        return []
    bf16, base = native_bf16(), experiment.base.model
    reference_model = base.to(torch.bfloat16) if bf16 else base  # in one precision, rounding is no divergence

    def make(texts: list[Text], progress: Progress) -> list[float]:
        drawn = sampled(
            model, experiment.tokenizer, texts, evals.max_new_tokens, seed, progress=progress, variables=variables
        )
        return kl(model, reference_model, drawn, experiment.layout, bf16=bf16)

    depends = {
        **same, "base": experiment.weights, "max_new_tokens": evals.max_new_tokens, "seed": seed,
        "layout": experiment.layout, **_of_template(variables),
    }  # fmt: skip
    together = prompts_together(model.device)
    return _by_prompt("kl", name, depends, prompts, make, experiment.console, together)


def report_unavailable(benchmarks: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Print a line for each benchmark that could not be run."""
    for suite, result in benchmarks.items():
        if result.get("reason"):
            console.print(f"{suite}: unavailable: {result['reason']}", soft_wrap=True, markup=False, highlight=False)
