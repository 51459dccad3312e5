"""The measure stage: measure every number of a model once. `evals.json` is keyed by everything that it depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from enum import Enum
from functools import partial
from typing import Any

import torch
from rich.console import Console

from prefzoo.data.chat import with_variables
from prefzoo.engine import model_copies, reference_logprobs
from prefzoo.engine.precision import answering_key, native_bf16
from prefzoo.engine.sharded_model import ShardedModel, are_models_sharded, read
from prefzoo.errors import UserError
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.held_out import has_all_metrics, on_pairs
from prefzoo.evals.metrics.measure import HeldOut, Measured, measured, run_benchmarks, write_samples
from prefzoo.evals.suites.tasks import suite_key
from prefzoo.experiment.base_logprobs import base_on_held_out, logprobs_of
from prefzoo.experiment.checkpoint_reader import CheckpointReader
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.stages.answers import cached_answers, of_template, own_samples
from prefzoo.experiment.stages.engines import Given, answers_by_engine
from prefzoo.experiment.stages.stage import Done, Result
from prefzoo.experiment.work_names import benchmarking, scoring, tokens_of
from prefzoo.runtime import run_folders
from prefzoo.runtime.cache import ENGINE, key_of
from prefzoo.runtime.distributed import broadcast, process_state, shard
from prefzoo.runtime.measuring_time import timed
from prefzoo.runtime.progress import set_variant_state, stage
from prefzoo.runtime.run_folders import BASE
from prefzoo.runtime.versions import version_of
from prefzoo.training.step_metrics import beta_of
from prefzoo.types import LogProbs, VocabLogProbs

MEASURED = "measured"


def measure_models(experiment: Experiment, names: Sequence[str]) -> dict[str, Result]:
    """Measure the base or trials, unless their numbers are on disk. All processes call this.

    Each takes some models; if models are sharded, all measure one after the other together.

    Args:
        experiment: what the models are of.
        names: `base`, and trials that are trained.

    Returns:
        How it ended, by name.
    """
    todo = broadcast([name for name in names if not is_complete(experiment, name)])
    for name in names:
        if name not in todo:
            line = f"{name}: already measured with these settings; reused"
            set_variant_state(name, MEASURED, experiment.console, line)
    shares, of = are_models_sharded(), {name: weights_of(experiment, name) for name in todo}
    if shares:  # one engine uses all GPUs; the other processes leave them alone
        experiment.base.drop()
        given = broadcast(answers_by_engine(experiment, of) if process_state().is_main_process else {})
    else:
        given = answers_by_engine(experiment, {name: of[name] for name in shard(todo)})
    base = base_on_held_out(experiment) if todo and experiment.held_out else None
    reader = CheckpointReader(experiment.load_checkpoint)
    for name in todo if shares else shard(todo):
        model = experiment.base.model if name == BASE else reader.read(experiment.folder / name / "checkpoint")
        measure_model(experiment, name, model, base, given.get(name))
        set_variant_state(name, MEASURED, experiment.console)
    process_state().wait_for_everyone()
    if not experiment.frontier_points:  # which needs it, too
        experiment.base.drop()
    return {name: Done(kept=name not in todo) for name in names}


def measure_model(experiment: Experiment, name: str, model: Any, base: LogProbs | None, given: Given = None) -> None:
    """Measure one model, and write its numbers and its answers. If it is sharded, all processes call this.

    Args:
        experiment: what the model is of.
        name: `base`, or a trial.
        model: its weights; where the machine has bf16 they are in bf16 afterwards.
        base: the base's log-probs of the held-out pairs, in nats; None without such pairs.
        given: its answers to the prompts; None: it is asked.
    """
    evals, bf16, folder = experiment.recipe.evals, native_bf16(), experiment.folder / name
    shared = isinstance(model, ShardedModel)
    writes = not shared or process_state().is_main_process
    held_out = HeldOut()
    if base is not None and name != BASE:
        title = f"held-out pairs under {name}"
        with (
            stage(title, "pairs", experiment.console, variant=name, activity="held-out pairs") as report,
            timed(folder, "pairs", len(experiment.held_out) * writes),
            experiment.rates.timed(scoring(VocabLogProbs, bf16=bf16), tokens_of(experiment.held_out) * (not shared)),
        ):
            policy = logprobs_of(model, experiment.held_out, experiment.layout, VocabLogProbs, bf16=bf16, report=report)
        assert isinstance(policy, VocabLogProbs)
        held_out = on_pairs(policy, base, beta_of(experiment.trials[name].variant.params))
    model = experiment.base.answering if name == BASE else experiment.answering(model, folder / "checkpoint")
    same = identity(experiment, name)
    with timed(folder, "answers", len(experiment.prompts) * writes) if given is None else nullcontext():
        answers = given or cached_answers(
            name, model, experiment.tokenizer, experiment.prompts, evals.max_new_tokens, same, experiment.console,
            experiment.recipe.data.chat_template_kwargs, None if shared else experiment.rates,
        )  # fmt: skip
    benchmarks, variables = dict[str, dict[str, Any]](), experiment.recipe.data.chat_template_kwargs
    tokenizer, seen = with_variables(experiment.tokenizer, variables, "data"), same | of_template(variables)
    for suite in evals.benchmarks:
        title = f"{suite} of {name}"
        with (
            stage(title, "suites", experiment.console, variant=name, activity=suite),
            timed(folder, suite, int(writes)),
        ):
            work = benchmarking(suite, experiment.recipe.folder)
            took = partial(experiment.rates.record, work, units=int(not shared))
            run = partial(run_benchmarks, tokenizer=tokenizer, spec=suite, folder=experiment.recipe.folder)
            benchmarks |= read(model, partial(run, depends=seen, took=took, shared=shared))
    report_unavailable(benchmarks, experiment.console)
    with timed(folder, "samples", int(writes)):
        divergence = [s.kl for s in own_samples(experiment, name, lambda: model, same)] if name != BASE else []
    numbers = measured(held_out, experiment.prompts, answers, Verifier(), benchmarks, divergence)
    numbers = replace(numbers, sources=experiment.held_out_sources if numbers.margins else [])
    if not writes:
        return
    values = asdict(numbers)
    write_samples(experiment.folder / name, numbers)
    key = f"{_key(experiment, name)}-{key_of(values)}"
    run_folders.write_json(experiment.folder / name / "evals.json", {"key": key, **values})


def read_numbers(experiment: Experiment, names: Sequence[str]) -> dict[str, Measured]:
    """Return the numbers of measured models, whichever process measured them.

    Raises:
        UserError: some are not on disk.
    """
    numbers = {name: numbers_of(experiment, name) for name in names}
    missing = [name for name, one in numbers.items() if one is None]
    if missing:
        raise UserError(
            f"{experiment.folder}: no numbers of {', '.join(missing)}, although they were measured; --results must be "
            f"a folder that all processes share"
        )
    return {name: one for name, one in numbers.items() if one is not None}


def is_complete(experiment: Experiment, name: str) -> bool:
    """Return whether a model's numbers are on disk, and no benchmark among them was unavailable at the time."""
    numbers = numbers_of(experiment, name)
    return numbers is not None and not any(b.get("reason") for b in numbers.benchmarks.values())


class Numbers(Enum):
    """The content of a model's `evals.json`: nothing, numbers of the present settings, or of others."""

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


def identity(experiment: Experiment, name: str) -> dict[str, str]:
    """Return what identifies a model that answers: hashes of weights and vocabulary, and the data type."""
    dtype = torch.bfloat16 if native_bf16() else torch.float32
    weights = weights_of(experiment, name)
    return {"weights": weights, "vocabulary": experiment.vocabulary, "dtype": answering_key(dtype)}


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
    variables = of_template(experiment.recipe.data.chat_template_kwargs)
    with_them = list(variables.values()) * (2 if suites else 1)  # once benchmarks did not see them
    with_them += ["exact positions", "fp32 log-probs"] if native_bf16() else []  # once both were rounded to bf16
    versions = [ENGINE, reference_logprobs.ENGINE, version_of("transformers"), version_of("lm-eval")]
    return key_of([
        weights_of(experiment, name), experiment.weights, experiment.vocabulary, evals.identity,
        [asdict(p) for p in experiment.prompts], suites, experiment.held_out_rows, experiment.layout, native_bf16(),
        versions, *with_them, *experiment.held_out_sources,
    ])  # fmt: skip


def numbers_of(experiment: Experiment, name: str) -> Measured | None:
    """Return a model's numbers on disk; None unless they are its own and of the present settings."""
    path = experiment.folder / name / "evals.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        settings, _, content = values.pop("key").partition("-")
        if settings != _key(experiment, name):
            return None
        if content != key_of(values):
            raise ValueError("numbers differ from those that were written")
        stored = Measured(**values)
        return stored if has_all_metrics(stored) else None
    except OSError:  # mostly: nothing there
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        experiment.console.print(f"{path}: damaged (its checksum is wrong); measured again")
        return None


def report_unavailable(benchmarks: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Print a line for each benchmark that could not be run."""
    for suite, result in benchmarks.items():
        if result.get("reason"):
            console.print(f"{suite}: unavailable: {result['reason']}", soft_wrap=True, markup=False, highlight=False)
