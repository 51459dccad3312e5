"""Generate a model's answers: greedy ones to each prompt, and sampled ones for its KL from the base. All are cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from prefzoo.data.examples import Text
from prefzoo.engine.precision import native_bf16
from prefzoo.engine.sharded_model import ShardedModel, are_models_sharded
from prefzoo.evals.generation.batches import prompts_together
from prefzoo.evals.generation.generate import generate
from prefzoo.evals.judges.protocol import Answer, Progress, PromptRow
from prefzoo.evals.metrics.sampled_kl import kl, sampled
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.work_names import answering
from prefzoo.runtime.cache import cached_by_prompt, key_of
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.progress import Report, stage
from prefzoo.runtime.rates import Rates
from prefzoo.runtime.run_folders import BASE


def cached_answers(
    name: str, model: Any, tokenizer: Any, prompts: Sequence[PromptRow], tokens: int, same: dict[str, str],
    console: Console, variables: Mapping[str, Any] | None = None, rates: Rates | None = None,
) -> list[Answer]:  # fmt: skip
    """Return a model's answer to each prompt; each is generated once, and then cached.

    Args:
        name: of the model, for the progress display.
        model, tokenizer: the model that answers; if it is sharded, all processes call this.
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
    depends |= of_template(variables)

    def make(texts: list[Text], progress: Progress) -> list[dict[str, Any]]:
        with rates.timed(answering(len(prompts), tokens), len(texts) * tokens) if rates else nullcontext():
            generated = generate(model, tokenizer, texts, max_new_tokens=tokens, progress=progress, variables=variables)
        return [asdict(answer) for (answer,) in generated]

    texts = [row.prompt for row in prompts]
    begun = f"answers of {name}", name, "answers"
    rows = _by_prompt("answers", begun, depends, texts, make, console, shared=isinstance(model, ShardedModel))
    return [Answer(**row) for row in rows]


def of_template(variables: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what an answer depends on besides the model; nothing without variables, so that older caches hold."""
    return {"chat_template_kwargs": key_of(dict(variables))} if variables else {}


@dataclass(frozen=True)
class Sample:
    """An answer that a model sampled to a prompt.

    Attributes:
        tokens: ids, up to and including the one that ends it.
        kl: an estimate of the sequence's KL from the base, in nats.
    """

    tokens: list[int]
    kl: float


def own_samples(experiment: Experiment, name: str, model: Callable[[], Any], same: Mapping[str, str]) -> list[Sample]:
    """Sample an answer to each of the prompts of `evals.kl`, once, and then from the cache.

    Args:
        experiment: what the model is of.
        name: `base`, or a trial.
        model: returns the weights; it is not called if all answers are cached. If models are sharded, all processes
            call this.
        same: what identifies the model: hashes of weights and vocabulary, and the data type.

    Returns:
        A sample for each prompt, in their order.
    """
    evals, variables = experiment.recipe.evals, experiment.recipe.data.chat_template_kwargs
    prompts = [p.prompt for p in experiment.prompts[: evals.kl]]
    if not prompts:
        return []
    seed = experiment.recipe.seed if name == BASE else experiment.trials[name].seed

    def make(texts: list[Text], progress: Progress) -> list[dict[str, Any]]:
        return [asdict(one) for one in draw(experiment, model(), texts, seed, progress)]

    depends = {
        **same, "base": experiment.weights, "max_new_tokens": evals.max_new_tokens, "seed": seed,
        "layout": experiment.layout, **of_template(variables),
    }  # fmt: skip
    begun = f"samples of {name}", name, "samples"
    rows = _by_prompt("samples", begun, depends, prompts, make, experiment.console, shared=are_models_sharded())
    return [Sample(**row) for row in rows]


def draw(
    experiment: Experiment, model: Any, prompts: list[Text], seed: int, progress: Progress | None = None
) -> list[Sample]:
    """Sample an answer to each prompt, and measure its KL from the base.

    Args:
        experiment: gives the base, and how long answers are.
        model: what draws, in the precision in which answers are generated.
        prompts: their texts.
        seed: of the draw.
        progress: called with how many answers are done, and of how many.

    Returns:
        A sample for each prompt.
    """
    evals = experiment.recipe.evals
    drawn = sampled(
        model, experiment.tokenizer, prompts, evals.max_new_tokens, seed, progress,
        experiment.recipe.data.chat_template_kwargs,
    )  # fmt: skip
    base = experiment.base.answering  # in one precision, rounding is no divergence
    divergence = kl(model, base, drawn, experiment.layout, bf16=native_bf16())
    return [Sample(answer.completion, one) for answer, one in zip(drawn, divergence, strict=True)]


def _by_prompt(
    kind: str, begun: tuple[str, str, str], depends: dict[str, Any], texts: list[Text],
    make: Callable[[list[Text], Progress], list[Any]], console: Console, *, shared: bool,
) -> list[Any]:  # fmt: skip
    """`cached_by_prompt` under a stage that begins with the first batch that is not cached.

    `begun`: the stage's title, its variant and activity.
    """
    with ExitStack() as stages:
        reports: list[Report] = []
        finished = 0

        def generated(part: list[Text]) -> list[Any]:
            if not reports:
                title, variant, activity = begun
                reports.append(
                    stages.enter_context(stage(title, "prompts", console, variant=variant, activity=activity))
                )
            return make(part, lambda done, _: reports[0](finished + done, len(texts), ""))

        def progress(done: int, total: int) -> None:
            nonlocal finished
            finished = done
            for report in reports:
                report(done, total, "")

        together = prompts_together(process_state().device.type)
        return cached_by_prompt(kind, depends, texts, generated, progress, together=together, shared=shared)
