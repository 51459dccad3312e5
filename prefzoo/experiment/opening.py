"""Load a recipe's model and data, and check that the data suits every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from rich.console import Console

from prefzoo.data.audit import Audit, AuditedData
from prefzoo.data.faults import BadRow
from prefzoo.data.mixtures_view import sources_table
from prefzoo.data.tokens import TokenExample, TokenPair, only_pairs
from prefzoo.engine import models
from prefzoo.engine.base_model import Base
from prefzoo.engine.logprobs import NOTES, choose_layout, left_out
from prefzoo.engine.precision import native_bf16, use_bf16
from prefzoo.engine.sharded_model import are_models_sharded
from prefzoo.errors import UserError
from prefzoo.evals.suites.prompts import check_rendered, load_prompts
from prefzoo.experiment import search
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.data import check_variants, read_data, unit
from prefzoo.experiment.model_checks import check_model
from prefzoo.experiment.pair_weights import read_pair_weights
from prefzoo.experiment.references import read_references
from prefzoo.experiment.request import Request
from prefzoo.experiment.search import Trial
from prefzoo.recipe.load import Recipe
from prefzoo.runtime import atomic_files
from prefzoo.runtime.distributed import in_main, process_state
from prefzoo.runtime.progress import stage
from prefzoo.runtime.run_folders import BASE
from prefzoo.training.loss_inputs import contents_of


def open_experiment(request: Request, recipe: Recipe, console: Console) -> Experiment:
    """Load a recipe's model and data, and check that the data suits every trial.

    Args:
        request: what was asked for.
        recipe: the request's recipe, read.
        console: where progress goes.

    Returns:
        The experiment. All processes call this; the main process loads first.

    Raises:
        UserError: the model, the data or the split for validation is wrong.
    """
    folder, trials = request.folder(recipe.name), {t.name: t for t in search.expand(recipe)}
    for name in (BASE, *trials):
        atomic_files.resolve_inside(folder, name)
    sharded, frozen_bf16 = are_models_sharded(), _may_be_bf16(list(trials.values()))
    load = partial(
        models.load, recipe.model, recipe.folder, dtype=None if sharded and frozen_bf16 else torch.float32,
        trust=recipe.trust_remote_code, merge=True, on_device=True,
    )  # fmt: skip
    with stage(f"loading {recipe.model}", "models", console), process_state().main_process_first():
        model, tokenizer = load()
        model = model if sharded else model.to(process_state().device)
    weights, vocabulary = in_main(lambda: models.fingerprint(model), alone=sharded), models.tokenizer_hash(tokenizer)
    check_model(recipe.model, model, list(trials.values()), console)
    prompts = load_prompts(recipe.evals.prompts, recipe.folder) if recipe.evals.prompts else []
    check_rendered(prompts, tokenizer, recipe.data.chat_template_kwargs, f"evals.prompts: {recipe.evals.prompts}")
    read = read_data(recipe, tokenizer, prompts, console)
    validation_data = read.pop("validation", None)
    pairs, held_out, audits, bad_rows = _data_of(recipe, read, console)
    check_variants(recipe, contents_of(pairs))
    tried = [pick(one, key=len) for one in (pairs, held_out) if one for pick in (max, min)]
    layout = in_main(lambda: choose_layout(model, tried), alone=sharded)
    for line in [*([NOTES[layout]] if layout in NOTES else []), *left_out(model)]:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    train, validation = split_validation(recipe, validation_data, pairs, held_out, bad_rows)
    base = Base(lambda: load()[0], frozen_bf16=frozen_bf16, loaded=model, sharded=sharded)
    references = read_references(recipe, list(trials.values()), model, tokenizer, layout, pairs, console)
    return Experiment(
        recipe, folder, console, trials, tokenizer, base, weights, vocabulary, train, validation, held_out, prompts,
        layout, audits, bad_rows, request.save_every, references,
        read_pair_weights(recipe, list(trials.values()), train),
    )  # fmt: skip


def _data_of(
    recipe: Recipe, read: Mapping[str, AuditedData], console: Console
) -> tuple[Sequence[TokenExample], Sequence[TokenPair], dict[str, Any], dict[str, list[BadRow]]]:
    """Return the training pairs, the held-out pairs, and the audits and unused rows of both data sets."""
    audits = {use: asdict(data.audit) for use, data in read.items()}
    bad_rows = {use: data.left_out for use, data in read.items()}
    pairs: Sequence[TokenExample] = read["train"].tokens.examples
    held_out: Sequence[TokenPair] = ()
    _print_audit(console, "training", unit(pairs), read["train"].audit)
    if "eval" in read:
        fault = f"data.eval: {recipe.data.eval_spec} has single labelled answers; held-out data must be pairs"
        held_out = only_pairs(read["eval"].tokens.examples, fault)
        _print_audit(console, "held-out", unit(held_out), read["eval"].audit)
    return pairs, held_out, audits, bad_rows


def _print_audit(console: Console, use: str, noun: str, audit: Audit) -> None:
    lost = "".join(f", {n} {why}" for why, n in audit.counts.items())
    console.print(f"data: {audit.kept} {use} {noun} ({audit.schema}){lost}", soft_wrap=True, markup=False)
    if audit.sources:
        console.print(sources_table(audit.sources))


def _may_be_bf16(trials: Sequence[Trial]) -> bool:
    """Return whether the base is only used under autocast to bf16, and is never trained in small steps itself."""
    settings = [t.variant.train for t in trials]
    return native_bf16() and all(use_bf16(t) and (t.sync_reference is None or t.lora is not None) for t in settings)


def split_validation(
    recipe: Recipe, read: AuditedData | None, pairs: Sequence[TokenExample], held_out: Sequence[TokenPair],
    bad_rows: dict[str, list[BadRow]],
) -> tuple[Sequence[TokenExample], Sequence[TokenPair]]:  # fmt: skip
    """Split the training data into training rows, and pairs for choosing settings.

    Args:
        recipe: its `sweep.validation` is a share of the training prompts, or a data set.
        read: the validation pairs, where they are a data set of their own.
        pairs: the training data.
        held_out: the test split, with which the validation pairs must share none.
        bad_rows: takes those of a data set of its own, under `validation`.

    Returns:
        Training rows, and validation pairs; no validation pairs if there is nothing to choose.

    Raises:
        UserError: the validation pairs are also in the test split, or are not pairs.
    """
    if not any(v.axes for v in recipe.variants.values()):
        return pairs, []
    source = search.settings_of(recipe).validation
    if read is not None:
        bad_rows["validation"] = read.left_out
        train, held = pairs, read.tokens.examples
    else:
        assert not isinstance(source, str)  # otherwise it was read
        train, held = search.split_off(pairs, source)
    validation = only_pairs(
        held,
        "sweep.validation: settings are chosen by accuracy on pairs, and these are single labelled answers; "
        "name a data set of pairs",
    )
    test = {_content(p) for p in held_out}
    shared = sum(_content(p) in test for p in validation)
    if shared:
        origin = source if isinstance(source, str) else f"data.train {recipe.data.train_spec}"
        raise UserError(f"sweep.validation: {shared} pairs of {origin} are in data.eval too; remove them there")
    return train, validation


def _content(pair: TokenPair) -> tuple[tuple[int, ...], ...]:
    return tuple(pair.prompt), tuple(pair.chosen), tuple(pair.rejected)
