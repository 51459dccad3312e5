"""Generate the answers of all models of a stage with another engine than transformers: `evals.engine: vllm`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

from prefzoo.data.encoding import encode_prompt
from prefzoo.data.examples import Text
from prefzoo.engine import model_copies, models
from prefzoo.evals.generation.vllm import Engine, engine_version, is_adapter, longest
from prefzoo.evals.judges.protocol import Answer
from prefzoo.experiment.context import Experiment
from prefzoo.runtime.cache import cached_by_prompt, key_of
from prefzoo.runtime.measuring_time import timed
from prefzoo.runtime.progress import Report, stage
from prefzoo.runtime.run_folders import BASE

Given = list[Answer] | None
TOGETHER = 512  # prompts whose answers are generated, and cached, together


def answers_by_engine(experiment: Experiment, weights: Mapping[str, str]) -> dict[str, list[Answer]]:
    """Return the greedy answers of models, each generated once and then cached; nothing for transformers.

    The base and the adapters on it share an engine; a model with other weights gets a separate one.

    Args:
        experiment: what the models are of.
        weights: of each model, by name, the hash of its weights.

    Returns:
        An answer to each of the experiment's prompts, by the model's name.

    Raises:
        UserError: the engine fails.
    """
    if experiment.recipe.evals.engine == "hf" or not experiment.prompts:
        return {}
    recipe = experiment.recipe
    trust = recipe.trust_remote_code
    start = model_copies.merged(models.resolve_model(recipe.model, recipe.folder), trust=trust)
    start = model_copies.with_rows(start, experiment.tokenizer, trust=trust)
    engines: dict[str, dict[str, str | None]] = {}
    for name in weights:
        checkpoint = str((experiment.folder / name / "checkpoint").resolve())
        on_base = name == BASE or (is_adapter(checkpoint) and models.base_of(checkpoint) == start)
        source = start if on_base else model_copies.merged(checkpoint, trust=trust)
        engines.setdefault(source, {})[name] = checkpoint if on_base and name != BASE else None
    answers: dict[str, list[Answer]] = {}
    for source, adapters in engines.items():
        answers |= _of_one_engine(experiment, source, adapters, weights)
    return answers


def _of_one_engine(
    experiment: Experiment, source: str, adapters: Mapping[str, str | None], weights: Mapping[str, str]
) -> dict[str, list[Answer]]:
    """Return answers of a model and of adapters on it; the engine starts with the first that are not cached."""
    variables, tokens = experiment.recipe.data.chat_template_kwargs, experiment.recipe.evals.max_new_tokens
    prompts = [row.prompt for row in experiment.prompts]
    same = {"vocabulary": experiment.vocabulary, "max_new_tokens": tokens, "engine": engine_version()}
    same |= {"chat_template_kwargs": key_of(dict(variables))} if variables else {}
    answers: dict[str, list[Answer]] = {}
    with ExitStack() as stack:
        engines: list[Engine] = []

        def make(name: str, some: list[Text]) -> list[dict[str, Any]]:
            if not engines:
                experiment.base.drop()  # the engine needs the device's memory
                length = longest([_encoded(experiment, prompt) for prompt in prompts]) + tokens
                folders = [folder for folder in adapters.values() if folder]
                engines.append(stack.enter_context(Engine(source, experiment.tokenizer, length, folders)))
            ids = [_encoded(experiment, prompt) for prompt in some]
            return [asdict(one) for one in engines[0].ask(ids, max_new_tokens=tokens, adapter=adapters[name])]

        for name in adapters:
            title, folder = f"answers of {name} by vLLM", experiment.folder / name
            with (
                stage(title, "prompts", experiment.console, variant=name, activity="answers") as report,
                timed(folder, "answers", len(prompts)),
            ):
                rows = cached_by_prompt(
                    "answers", {**same, "weights": weights[name]}, prompts, partial(make, name), partial(_show, report),
                    together=TOGETHER,
                )  # fmt: skip
            answers[name] = [Answer(**row) for row in rows]
    return answers


def _show(report: Report, done: int, total: int) -> None:
    report(done, total, "")


def _encoded(experiment: Experiment, prompt: Text) -> list[int]:
    return encode_prompt(experiment.tokenizer, prompt, experiment.recipe.data.chat_template_kwargs)
