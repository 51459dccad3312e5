"""The stages of a run, each of which any process can do alone: reference, train, measure. Disk joins them.

Every stage's output is keyed by its content: done again, it finds what is there, or goes on from its last checkpoint.
Whoever places stages (in order here, Ray, a SLURM array) need know nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console

from prefzoo.data.tokens import TokenExample, TokenPair, only_pairs
from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.engine.precision import native_bf16, use_bf16
from prefzoo.errors import UserError
from prefzoo.evals.boards import leaderboard
from prefzoo.evals.metrics.held_out import preference_margins
from prefzoo.experiment import search
from prefzoo.experiment.context import Run, logprobs_of
from prefzoo.experiment.data import tokens_of
from prefzoo.experiment.search import Score, Trial
from prefzoo.experiment.stages.measure import complete, measure, reference_of_held_out
from prefzoo.experiment.stages.train import job_of, train_variant, training_key
from prefzoo.recipe import load as recipe
from prefzoo.recipe.load import Recipe
from prefzoo.runtime import run_folders
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.progress import stage
from prefzoo.training.job import steps_of
from prefzoo.training.loss_inputs import kind_of

FAILED = "failed.json"  # why a trial has none
DONE = "done"
KINDS = ("reference", "train", "measure")


@dataclass(frozen=True)
class Order:
    """A run as plain values, which can be sent to another process: what `prefzoo run` was given."""

    recipe: str
    overrides: tuple[str, ...]
    results: str
    save_every: float


@dataclass(frozen=True)
class Stage:
    """One piece of work. `trial` is a trial's name, or `base` for measuring; `until` a rung's number of steps."""

    kind: str
    trial: str = ""
    until: int | None = None

    def __str__(self) -> str:
        rung = f"@{self.until}" if self.until else ""
        return f"{self.kind}:{self.trial}{rung}" if self.trial else self.kind


@dataclass(frozen=True)
class Opened:
    """A run that was read and loaded, in this process.

    Attributes:
        run: without variants of its own; `of` gives it a trial's.
        validation: pairs that choices are made by; empty where there is nothing to choose.
    """

    run: Run
    base: Base
    trials: dict[str, Trial]
    validation: list[TokenPair]

    def of(self, trial: Trial) -> Run:
        """The run as the trial sees it: one seed, its variants, and nothing of the test split."""
        return replace(self._seeded(trial.seed), held_out=[], prompts=[])

    def final(self, trial: Trial) -> Run:
        """The run for measuring a chosen trial on the test split."""
        return self._seeded(trial.seed)

    def _seeded(self, seed: int) -> Run:
        variants = {t.name: t.variant for t in self.trials.values() if t.seed == seed}
        update = {"variants": variants, "seed": seed}
        return replace(self.run, recipe=self.run.recipe.model_copy(update=update))


def validation_of(found: Recipe, run: Run) -> tuple[Sequence[TokenExample], list[TokenPair]]:
    """What to train on, and what to choose by.

    Raises:
        UserError: the validation pairs cannot be told from the test's, or are no pairs.
    """
    if not any(v.axes for v in found.variants.values()):
        return run.pairs, []
    how = search.settings_of(found).validation
    if isinstance(how, str):
        if how == found.data.eval:
            raise UserError(f"sweep.validation: {how} is also data.eval; what a choice was made by tests nothing")
        train, held = run.pairs, tokens_of(found, how, run.tokenizer)[0].examples
    else:
        train, held = search.split_off(run.pairs, how)
    pairs = only_pairs(
        held,
        "sweep.validation: settings are chosen by accuracy on pairs, and these are single labelled answers; "
        "name a data set of pairs",
    )
    test = {_content(p) for p in run.held_out}
    shared = sum(_content(p) in test for p in pairs)
    if shared:
        what = how if isinstance(how, str) else f"data.train {found.data.train}"
        raise UserError(f"sweep.validation: {shared} pairs of {what} are in data.eval too; remove them there")
    return train, pairs


def _content(pair: TokenPair) -> tuple[tuple[int, ...], ...]:
    return tuple(pair.prompt), tuple(pair.chosen), tuple(pair.rejected)


@lru_cache(maxsize=1)
def opened(order: Order, quiet: bool = False) -> Opened:
    """The run of an order, loaded once per process."""
    from prefzoo.experiment.plain import prepare

    found = recipe.load(Path(order.recipe), order.overrides)
    console = Console(quiet=quiet or not process_state().is_main_process, emoji=False)
    trials = {t.name: t for t in search.expand(found)}
    run, base, _ = prepare(found, Path(order.results) / found.name, console, order.save_every)
    train, validation = validation_of(found, run)
    seeds = tuple(found.seeds or [found.seed])
    return Opened(replace(run, pairs=train, seeds=seeds), base, trials, validation)


def do(order: Order, what: Stage) -> str:
    """Do one stage; how it ended: `done`, or the reason why it failed."""
    at = opened(order)
    if what.kind == "reference":
        _reference(at)
    elif what.kind == "train":
        return _train(at, at.trials[what.trial], what.until)
    elif what.trial == leaderboard.BASE:
        _measure(at, at.run, leaderboard.BASE)
    else:
        _measure(at, at.final(at.trials[what.trial]), what.trial)
    return DONE


def named(at: Opened, text: str) -> Stage:
    """The stage that a text like `train:3`, `train:dpo-beta0.1-s0` or `reference` names.

    Raises:
        UserError: there is no such stage.
    """
    kind, _, which = text.partition(":")
    names = list(at.trials)
    if which.isdigit() and int(which) < len(names):
        which = names[int(which)]
    if kind not in KINDS or (which not in names and (kind, which) not in (("reference", ""), ("measure", "base"))):
        raise UserError(
            f"--stage {text}: no such stage; there are reference, train:N and measure:N (N from 0 to {len(names) - 1}, "
            "or a trial's name) and measure:base"
        )
    return Stage(kind, which)


def _reference(at: Opened) -> None:
    """The log-probs that trainings share, in the cache before several of them ask at once."""
    done: set[Any] = set()
    for trial in at.trials.values():
        loss, how = trial.variant.loss_obj, trial.variant.train
        kind = kind_of(loss, "reference") if loss.needs_reference else None
        mismatched = (trial.seed, how.batch, how.steps, how.epochs) if loss.needs_mismatched else None
        what = (kind, mismatched, use_bf16(how))
        if (kind or mismatched) and what not in done and not (how.lora and how.lora.quantize):
            done.add(what)
            job_of(at.of(trial), trial.variant, at.base, at.run.weights)
    if at.validation:
        _theirs(at)
    if at.run.held_out:
        reference_of_held_out(at.run, at.base)


def _theirs(at: Opened) -> Any:
    what = "reference log-probs, validation pairs"
    return logprobs_of(at.run, at.base, at.run.weights, at.validation, what, bf16=native_bf16())


def _train(at: Opened, trial: Trial, until: int | None) -> str:
    run, folder = at.of(trial), at.run.folder / trial.name
    if until is not None and until >= steps_of(trial.variant.train, len(run.pairs)):
        until = None
    try:
        if until is None or score_of(at, trial, until) is None:
            if until is not None and process_state().is_main_process:
                # the weights of a finished training tell nothing of those on the way
                run_folders.discard_result(folder)
            ended = train_variant(run, trial.name, at.base, until=until)
            if isinstance(ended, run_folders.Failure):
                return ended.reason
        if at.validation and score_of(at, trial, until) is None:
            _validate(at, trial, until)
    except UserError as e:  # as when it diverges: the others go on
        if len(at.trials) == 1:
            raise
        reason = "; ".join(e.lines)
        if process_state().is_main_process:
            run_folders.write_json(folder / FAILED, {"reason": reason, "until": until})
        run.console.print(f"{trial.name}: {reason}", soft_wrap=True, markup=False)
        return reason
    (folder / FAILED).unlink(missing_ok=True)
    return DONE


def validation_file(folder: Path, until: int | None = None) -> Path:
    """A trial's margins on the validation pairs: of its last weights, or of those after `until` steps."""
    return folder / (f"validation-{until}.json" if until else "validation.json")


def _validate(at: Opened, trial: Trial, until: int | None) -> None:
    """Margins of a trial's weights on the validation pairs, from its checkpoint."""
    folder, theirs = at.run.folder / trial.name, _theirs(at)
    if process_state().is_main_process:
        model = _loaded(at, trial.name).to(process_state().device)
        with stage(f"validation pairs under {trial.name}", "pairs", at.run.console) as report:
            ours = reference_logprobs.logprobs(model, at.validation, at.run.layout, bf16=native_bf16(), report=report)
        found = {"key": _validation_key(at, trial, until), "margins": preference_margins(ours, theirs)}
        run_folders.write_json(validation_file(folder, until), found)
    process_state().wait_for_everyone()


def _validation_key(at: Opened, trial: Trial, until: int | None) -> str:
    trained = training_key(at.of(trial), trial.variant)
    return key_of([trained, until, reference_logprobs.rows_key(at.validation), native_bf16()])


def score_of(at: Opened, trial: Trial, until: int | None = None) -> Score | None:
    """What a trial gave on the validation pairs, after all its steps or at a rung; None where that is not known."""
    folder = at.run.folder / trial.name
    try:
        found = json.loads(validation_file(folder, until).read_text(encoding="utf-8"))
        if (folder / FAILED).is_file() or found["key"] != _validation_key(at, trial, until):
            return None
        return search.score(found["margins"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _measure(at: Opened, run: Run, name: str) -> None:
    if complete(run, name):
        run.console.print(f"{name}: already measured with these settings; kept")
        return
    theirs = reference_of_held_out(run, at.base) if run.held_out else None
    if process_state().is_main_process:
        base = model = at.base.model
        if name != leaderboard.BASE:
            model = _loaded(at, name).to(base.device)
        measure(run, name, model, base, theirs)
    at.base.drop()  # its precision may have been lowered, and trainings may follow
    process_state().wait_for_everyone()


def _loaded(at: Opened, name: str) -> Any:
    place = str((at.run.folder / name / "checkpoint").resolve())
    return models.load(place, Path(), trust=at.run.recipe.trust_remote_code)[0]


def failure(folder: Path) -> str:
    """Why the trial of a folder failed; empty where it did not."""
    path = folder / FAILED
    return str(json.loads(path.read_text(encoding="utf-8"))["reason"]) if path.is_file() else ""


def failures(folder: Path, trials: Sequence[Trial]) -> dict[str, str]:
    """Why trials that failed did, by their names."""
    found = {trial.name: failure(folder / trial.name) for trial in trials}
    return {name: reason for name, reason in found.items() if reason}
