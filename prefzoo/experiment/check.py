"""Check everything before anything is trained. `run` and `check` both call it, so that they agree.

A fault that would end a run is an error; all faults are reported at once if possible. A plug-in that raises ends a part
of the run: its variant, the verdicts, one metric. Absurd settings get a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.judges.protocol import Judge, PromptRow
from prefzoo.evals.suites.prompts import load_prompts
from prefzoo.experiment import facts
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.data import check_variants
from prefzoo.experiment.machine_checks import checks_of_machine
from prefzoo.experiment.overlap import check_overlap, contradictions
from prefzoo.experiment.plausible import implausible, unused
from prefzoo.experiment.plug_ins import are_own
from prefzoo.experiment.recipe_judge import recipe_judge
from prefzoo.experiment.request import Request
from prefzoo.recipe import load
from prefzoo.recipe.load import Recipe
from prefzoo.training.loss_inputs import Contents


@dataclass(frozen=True)
class Checked:
    """A recipe that can be run.

    Attributes:
        experiment: its model and data, loaded.
        judge: its judge, loaded; None in all processes but the main one.
        warnings: a line for each absurd setting.
        failing: place in the recipe -> why a plug-in there fails; a run goes on without it and ends with code 3.
        overlap: the warnings about rows that training data and test split share.
    """

    experiment: Experiment
    judge: Judge | None
    warnings: tuple[str, ...]
    failing: dict[str, str]
    overlap: list[str]

    @property
    def lines(self) -> list[str]:
        """The warnings and failures, for the user."""
        without = [f"fails: {place}: {reason}" for place, reason in self.failing.items()]
        return [f"warning: {line}" for line in self.warnings] + without


def load_checked(request: Request, launch: Path | None = None, recipe: Recipe | None = None) -> Recipe:
    """Read the recipe of a request, and check what depends on this machine: quick, nothing is loaded.

    Args:
        request: which run.
        launch: an Accelerate profile that trainings would start under.
        recipe: the recipe of the request; None to read it.

    Returns:
        The recipe.

    Raises:
        UserError: the recipe is wrong, names something that is not available here, or a folder cannot be written; all
            faults.
    """
    recipe = recipe or load.load(Path(request.recipe), request.overrides)
    faults = _Faults()
    for check in checks_of_machine(request, recipe, launch):
        with faults.collected():
            check()
    faults.raise_all()
    return recipe


def check_run(request: Request, recipe: Recipe, console: Console) -> Checked:
    """Open every input of a recipe, and call every plug-in on made-up pairs. Nothing is trained or sent to a server.

    All processes call this.

    Args:
        request: which run.
        recipe: of the request, as `load_checked` returned it.
        console: where progress goes.

    Returns:
        The loaded recipe, with warnings and failures.

    Raises:
        UserError: the run would be refused.
    """
    from prefzoo.experiment.made_up_calls import call_plug_ins
    from prefzoo.experiment.opening import open_experiment
    from prefzoo.runtime.distributed import all_gather, broadcast, process_state

    faults, judging = _Faults(), _Judging(None, [], [])
    if process_state().is_main_process:
        judging = _read_judging(recipe, faults)
    faults.lines = broadcast(faults.lines)
    faults.raise_all()
    experiment = open_experiment(request, recipe, console)
    _check_targets(experiment)
    if recipe.rounds is not None:
        from prefzoo.experiment.rounds import check_rounds

        check_rounds(experiment)
    calls = call_plug_ins(experiment, judging.judge)
    overlap = check_overlap(experiment)
    failing = {place: reason for own in all_gather(calls.failing) for place, reason in own.items()}
    return Checked(experiment, judging.judge, _warnings(experiment, overlap, calls.warnings, judging), failing, overlap)


def check_known(
    request: Request, recipe: Recipe, console: Console, keys: Mapping[str, str] | None
) -> Checked | None:  # fmt: skip
    """Check a recipe as `check_run`, from what earlier checks found of its model and its data. Needs no torch.

    Args:
        request: which run.
        recipe: of the request, as `load_checked` returned it.
        console: where progress goes.
        keys: of the facts, as `keys_of` returned them; None if they are not cached.

    Returns:
        What `check_run` returns, with an experiment that cannot be run; None where a fact is missing, or a plug-in is
        to be called.

    Raises:
        UserError: the run would be refused.
    """
    known = None if keys is None else facts.read_facts(keys)
    if known is None:
        return None
    faults = _Faults()
    judging = _read_judging(recipe, faults)
    faults.raise_all()
    experiment = facts.known_experiment(request, recipe, known, judging.prompts, console)
    check_variants(recipe, Contents(**known["data"]["contents"]))
    _check_targets(experiment)
    if not are_own(experiment, judging.judge):
        return None
    overlap = list(known["data"]["overlap"])
    return Checked(experiment, judging.judge, _warnings(experiment, overlap, [], judging), {}, overlap)


@dataclass(frozen=True)
class _Judging:
    """The judge with its prompts, and lines on rows that are left out."""

    judge: Judge | None
    prompts: list[PromptRow]
    left_out: list[str]


def _read_judging(recipe: Recipe, faults: _Faults) -> _Judging:
    """Read a recipe's prompts, judge and labels; errors are added to the faults."""
    judge, prompts, left_out = None, list[PromptRow](), list[str]()
    with faults.collected():
        if recipe.evals.prompts:
            prompts = load_prompts(recipe.evals.prompts, recipe.folder, left_out.append)
        judge = recipe_judge(recipe, prompts)
    if recipe.evals.judge_labels:
        from prefzoo.experiment.labels import FIELD, recipe_labels

        with faults.collected():
            left_out += [f"{FIELD}: {line}" for line in recipe_labels(recipe, prompts).losses()]
    return _Judging(judge, prompts, left_out)


def _warnings(experiment: Experiment, overlap: list[str], calls: list[str], judging: _Judging) -> tuple[str, ...]:
    return (
        *overlap,
        *contradictions(experiment),
        *implausible(experiment),
        *unused(experiment.recipe),
        *calls,
        *filter(None, judging.left_out),
    )


class _Faults:
    """Lines of faults, collected so that the user reads all of them at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        try:
            yield
        except UserError as e:
            self.lines += e.lines

    def raise_all(self) -> None:
        if self.lines:
            raise UserError(self.lines)


def _check_targets(experiment: Experiment) -> None:
    """Raise UserError for modules that adapters name and the model does not have."""
    faults = []
    for name, variant in experiment.recipe.variants.items():
        lora = variant.train.lora
        if lora is None or isinstance(lora.targets, str):
            continue
        modules = experiment.base.modules
        faults += [
            f"variants.{name}.train.lora.targets: {experiment.recipe.model} has no module {target!r}"
            f"{did_you_mean(target, modules)}; leave targets out to adapt all linear ones"
            for target in lora.targets
            if target.rpartition(".")[2] not in modules
        ]
    if faults:
        raise UserError(faults)
